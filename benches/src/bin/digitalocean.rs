//! The fake DigitalOcean as a program: prints its URL, its token and its S3 endpoint, and serves until its standard input ends.
//!
//! `DIGITALOCEAN_TOKEN` sets the token that it takes. Things take two looks to become ready, and one to be gone.
//!
//! ```console
//! $ { sleep infinity | cargo run -p lab --bin digitalocean; } &        # three lines: export them as below
//! $ export DIGITALOCEAN_API_URL=… DIGITALOCEAN_TOKEN=… DOKS_HARBOR_SPACES_ENDPOINT=…
//! $ doks-harbor init && doks-harbor plan
//! ```

#![expect(clippy::print_stdout, reason = "whoever started it reads the URL")]

use std::io::Read;

use anyhow::Result;
use lab::cloud::Cloud;
use lab::digitalocean::Fake;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut builder = Fake::builder().creating_polls(2).hidden_polls(1).deleting_polls(1);
    if let Ok(token) = std::env::var("DIGITALOCEAN_TOKEN") {
        builder = builder.token(&token);
    }
    let cloud = Cloud::with(builder).await?;
    println!("{}\n{}\n{}", cloud.api.url(), cloud.api.token(), cloud.s3.endpoint());
    // The servers go on meanwhile.
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}
