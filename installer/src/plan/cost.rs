//! What things cost. The API tells no price of a database, so this is a small table with its date; what is not in it is said to be unknown.

/// When the table was noted.
pub const AS_OF: &str = "2025-06";

/// List prices in US cents for a month: slug, PostgreSQL, Valkey; of one node.
const DATABASES: &[(&str, u32, u32)] = &[
    ("db-s-1vcpu-1gb", 1515, 1500),
    ("db-s-1vcpu-2gb", 3045, 3000),
    ("db-s-2vcpu-4gb", 6090, 6000),
    ("db-s-4vcpu-8gb", 12210, 12000),
    ("db-s-6vcpu-16gb", 24435, 24000),
];

/// Spaces' base price: for the account, however many buckets. It includes 250 GiB.
pub const SPACES: u32 = 500;

/// PostgreSQL's, US cents a month; `None` where the table does not have the size.
#[must_use]
pub fn postgres(size: &str, nodes: u8) -> Option<u32> {
    DATABASES.iter().find(|(slug, ..)| *slug == size).map(|(_, cents, _)| cents * u32::from(nodes))
}

/// Valkey's, US cents a month; `None` where the table does not have the size.
#[must_use]
pub fn valkey(size: &str, nodes: u8) -> Option<u32> {
    DATABASES.iter().find(|(slug, ..)| *slug == size).map(|(.., cents)| cents * u32::from(nodes))
}

/// `$15.15`.
#[must_use]
pub fn dollars(cents: u32) -> String {
    format!("${}.{:02}", cents / 100, cents % 100)
}

/// Connections that PostgreSQL's plan allows: 25 for each GB of memory, 3 of them reserved. `None` where the slug does not tell its memory.
#[must_use]
pub fn connections(size: &str) -> Option<u32> {
    let gigabytes: u32 = size.rsplit('-').next()?.strip_suffix("gb")?.parse().ok()?;
    (gigabytes > 0 && gigabytes <= 1024).then(|| gigabytes * 25 - 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_tell_their_connections_and_their_price() {
        assert_eq!(connections("db-s-1vcpu-1gb"), Some(22));
        assert_eq!(connections("db-s-2vcpu-4gb"), Some(97));
        assert_eq!(connections("gd-2vcpu-8gb"), Some(197));
        assert_eq!(connections("db-intel-2vcpu-4gb-intel"), None);
        assert_eq!(postgres("db-s-1vcpu-2gb", 2).map(dollars).as_deref(), Some("$60.90"));
        assert_eq!(valkey("db-s-1vcpu-1gb", 1).map(dollars).as_deref(), Some("$15.00"));
        assert_eq!(postgres("so1_5-2vcpu-16gb", 1), None);
    }
}
