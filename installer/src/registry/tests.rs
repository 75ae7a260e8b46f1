//! Whom a registry can send us to.

use super::*;

fn registry(base: &str, names: &[&str]) -> Registry {
    let names = names.iter().map(ToString::to_string).collect();
    let http = http::client().unwrap();
    Registry { http, base: Url::parse(base).unwrap(), names, login: None, token: Mutex::new(None) }
}

#[test]
fn an_address_that_is_told_leads_home_or_nowhere() {
    let forwarded = registry("http://127.0.0.1:41234/", &["harbor.example.com"]);
    let home = |told: &str| forwarded.at_home("realm", told).map(String::from).map_err(|error| error.to_string());
    assert_eq!(home("https://harbor.example.com/service/token").unwrap(), "http://127.0.0.1:41234/service/token");
    assert_eq!(home("https://harbor.example.com:30003/x?_state=a%3D").unwrap(), "http://127.0.0.1:41234/x?_state=a%3D");
    assert_eq!(home("/v2/p/r/blobs/uploads/1?_state=b").unwrap(), "http://127.0.0.1:41234/v2/p/r/blobs/uploads/1?_state=b");
    for foreign in [
        "https://evil.example.com/service/token",
        "https://harbor.example.com.evil.example.com/service/token",
        "https://harbor.example.com@evil.example.com/service/token",
        "//evil.example.com/service/token",
        "ftp://harbor.example.com/",
        "https://[",
    ] {
        let told = home(foreign).unwrap_err();
        assert!(told.contains("no login of ours goes"), "{told}");
    }
}

#[test]
fn an_address_in_clear_is_no_address() {
    let harbor = registry("https://harbor.example.com/", &["harbor.example.com"]);
    let told = harbor.at_home("Location", "http://harbor.example.com/v2/p/r/blobs/uploads/1?_state=s3cret").unwrap_err().to_string();
    assert!(told.contains("X-Forwarded-Proto") && !told.contains("s3cret"), "{told}");
    assert!(harbor.at_home("Location", "https://harbor.example.com:30003/v2/").is_ok());
}
