//! postgres (placeholder until merge).
/// x
#[derive(Default)]
pub struct KeyCache;
/// x
pub async fn request_tls(_tcp: &mut tokio::net::TcpStream) -> crate::error::Result<()> {
    Ok(())
}
/// x
#[derive(Default)]
pub struct Boundary;
impl Boundary {
    /// x
    pub fn on_client(&mut self, _b: &[u8]) {}
    /// x
    pub fn on_upstream(&mut self, _b: &[u8]) {}
    /// x
    pub fn is_idle(&self) -> bool {
        true
    }
}
