//! The plan, for people. `[pure]`

use std::fmt::{self, Write as _};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};

use super::{Action, Item, Plan, Step, cost};

/// Longer lines are broken within their column.
const WIDTH: u16 = 118;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scope = &self.scope;
        writeln!(f, "DOKS cluster {}, region {}, for {}", scope.cluster, scope.region, scope.account)?;
        writeln!(f)?;
        writeln!(f, "{}", table(&self.items).trim_fmt())?;
        writeln!(f)?;
        if !self.refusals.is_empty() {
            writeln!(f, "Nothing can be done before this is mended:")?;
            return self.refusals.iter().try_for_each(|why| writeln!(f, "  ! {why}"));
        }
        if self.is_empty() {
            return writeln!(f, "What DigitalOcean provides is as it should be.");
        }
        writeln!(f, "  + create   = use yours   ~ change   nothing that holds data is ever made anew or deleted")?;
        writeln!(f)?;
        f.write_str(&self.price())?;
        let seconds = self.items.iter().map(|item| item.seconds).max().unwrap_or(0);
        if seconds > 0 {
            writeln!(f, "Time: about {}", humantime::format_duration(Duration::from_secs(seconds.into())))?;
        }
        writeln!(f)?;
        writeln!(f, "Secrets, in the keyring (a folder for you alone) and later in the cluster's Secrets; nowhere else:")?;
        self.secrets.iter().try_for_each(|place| writeln!(f, "  {:<42} {:<30} {}", place.what, place.from, place.keyring))
    }
}

impl Plan {
    fn price(&self) -> String {
        let new: Vec<_> = self.items.iter().filter_map(|item| item.cents_per_month).collect();
        let mut text = String::new();
        if new.is_empty() {
            return text;
        }
        let known: u32 = new.iter().flatten().sum();
        let unknown = new.iter().filter(|cents| cents.is_none()).count();
        // Writing to a string cannot fail.
        let _ = write!(text, "Cost: {} more each month", cost::dollars(known));
        if unknown > 0 {
            let _ = write!(text, ", and {unknown} of unknown price");
        }
        let _ = writeln!(text, " (list prices of {}, without taxes and traffic; Spaces once for the account)", cost::AS_OF);
        text
    }
}

fn table(items: &[Item]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    for item in items {
        let price = match item.cents_per_month {
            Some(Some(cents)) => cost::dollars(cents),
            Some(None) => "price unknown".to_owned(),
            None => String::new(),
        };
        let first =
            item.notes.first().cloned().unwrap_or_else(|| if item.steps.is_empty() { "as it should be".to_owned() } else { String::new() });
        table.add_row([item.action.mark().to_owned(), item.kind.to_owned(), item.name.clone(), first, price]);
        let steps = item.steps.iter().filter(|step| item.action != Action::Foreign && **step != Step::AwaitOnline).map(Step::to_string);
        for line in item.notes.iter().skip(1).cloned().chain(steps) {
            table.add_row([String::new(), String::new(), String::new(), line, String::new()]);
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((1, 1));
    }
    table
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateDatabase { new } => write!(f, "create it, with the tag {}", new.tags.join(", ")),
            Self::AwaitOnline => f.write_str("wait until it serves"),
            Self::CreateUser { user } => write!(f, "create the user {user}"),
            Self::CreateDb { db } => write!(f, "create the database {db}"),
            Self::SetFirewall { rules } => write!(f, "let the cluster in ({} rules in all)", rules.len()),
            Self::SetNoEviction => f.write_str("set the eviction policy noeviction"),
            Self::SetMaintenance { window } => write!(f, "set the maintenance window to {} {} UTC", window.day, window.hour),
            Self::KeepPassword => f.write_str("put its password into the keyring"),
            Self::MakeBucket { adopted: true, .. } => f.write_str("claim it for this cluster; prove that its key works"),
            Self::MakeBucket { .. } => f.write_str("create it; abort unfinished uploads after 7 days; prove that its key works"),
            Self::RemoveKey { access_key, why } => write!(f, "delete the key {access_key}: {why}"),
        }
    }
}
