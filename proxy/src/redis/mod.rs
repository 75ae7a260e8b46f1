//! redis (placeholder until merge).
/// x
pub async fn login(
    _s: &mut crate::stream::Stream,
    _u: Option<&str>,
    _p: &secrecy::SecretString,
    _d: Option<u32>,
) -> crate::error::Result<()> {
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
