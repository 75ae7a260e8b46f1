//! The fake DigitalOcean as a program: prints its URL and its token, and serves until its standard input ends.
//!
//! `DIGITALOCEAN_TOKEN` sets the token that it takes.

#![expect(clippy::print_stdout, reason = "whoever started it reads the URL")]

use std::io::Read;

use anyhow::Result;
use lab::digitalocean::Fake;

fn main() -> Result<()> {
    let mut builder = Fake::builder().creating_polls(2).hidden_polls(1).deleting_polls(1);
    if let Ok(token) = std::env::var("DIGITALOCEAN_TOKEN") {
        builder = builder.token(&token);
    }
    let fake = builder.start()?;
    println!("{}\n{}", fake.url(), fake.token());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
