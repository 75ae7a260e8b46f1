//! Where Spaces is. The API does not tell: this is DigitalOcean's list.

/// Every region that has Spaces.
pub const REGIONS: &[&str] = &["ams3", "atl1", "blr1", "fra1", "lon1", "nyc3", "sfo2", "sfo3", "sgp1", "syd1", "tor1"];

/// Where a region's buckets are.
///
/// The region need not be in [`REGIONS`]: there may be new ones.
#[must_use]
pub fn endpoint(region: &str) -> String {
    format!("https://{region}.digitaloceanspaces.com")
}

/// The region of Spaces for a cluster in this region: the same, the newest of the same city, or the nearest city.
///
/// To be suggested, never chosen without a word: a registry's traffic goes there, and so do its bills. `None`: nobody knows.
#[must_use]
pub fn nearest(region: &str) -> Option<&'static str> {
    let city = region.trim_end_matches(|c: char| c.is_ascii_digit());
    let same = REGIONS.iter().copied().find(|known| *known == region);
    let newest = || REGIONS.iter().copied().rfind(|known| known.trim_end_matches(|c: char| c.is_ascii_digit()) == city);
    // Richmond and Atlanta are neighbours.
    same.or_else(newest).or_else(|| (city == "ric").then_some("atl1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_without_spaces_has_a_neighbour() {
        for (cluster, spaces) in [
            ("nyc1", "nyc3"),
            ("nyc2", "nyc3"),
            ("nyc3", "nyc3"),
            ("sfo1", "sfo3"),
            ("sfo2", "sfo2"),
            ("ric1", "atl1"),
            ("ams2", "ams3"),
            ("fra1", "fra1"),
        ] {
            assert_eq!(nearest(cluster), Some(spaces), "{cluster}");
        }
        assert_eq!(nearest("mars1"), None);
        assert_eq!(nearest(""), None);
        assert_eq!(endpoint("nyc3"), "https://nyc3.digitaloceanspaces.com");
    }
}
