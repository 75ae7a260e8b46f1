//! The bucket and the key for it. `[pure]`

use super::{Action, Item, Role, Step, bucket_of, cost};
use crate::digitalocean::SpacesKey;
use crate::names::TEMPORARY_KEY_PREFIX;
use crate::observe::{BucketSight, Observed};
use crate::spaces::nearest;
use crate::spec::Spec;

pub(super) fn bucket(spec: &Spec, observed: &Observed, refusals: &mut Vec<String>) -> Item {
    let seen = &observed.spaces;
    let (bucket, adopted) = (bucket_of(spec, observed), spec.spaces.adopt.is_some());
    let mut item = Item {
        action: if adopted { Action::Adopt } else { Action::Keep },
        role: Role::Spaces,
        kind: "Spaces bucket",
        name: bucket.clone(),
        notes: Vec::new(),
        cents_per_month: None,
        seconds: 0,
        steps: Vec::new(),
    };
    let Some(region) = seen.region.clone() else {
        item.action = Action::Foreign;
        refusals.push(no_region(observed));
        return item;
    };
    match seen.bucket {
        BucketSight::Ready => {}
        // The key may be ours and the bucket gone, or the bucket may be another's: only the step can tell.
        BucketSight::NoKey | BucketSight::Missing | BucketSight::Forbidden => {
            item.action = if adopted { Action::Adopt } else { Action::Create };
            item.seconds = 60;
            let new = !adopted && seen.bucket != BucketSight::Forbidden;
            item.cents_per_month = new.then_some(Some(cost::SPACES));
            if spec.spaces.keys.is_some() {
                item.notes.push(format!("in {region}, private; with your own key"));
            } else {
                item.notes.push(format!("in {region}, private; a key for this bucket alone"));
                item.notes.push("made with a key that may do everything and is deleted a minute later".to_owned());
            }
            item.steps.push(Step::MakeBucket { bucket, region, adopted });
        }
    }
    // Making the bucket with a key of ours removes them, too.
    if item.steps.is_empty() || spec.spaces.keys.is_some() {
        leftovers(&mut item, observed);
    }
    for key in seen.others.iter().filter(|key| key.name.starts_with(TEMPORARY_KEY_PREFIX)) {
        item.notes.push(format!(
            "the key {} may do everything and was left by a run with another keyring: delete it, unless that run is at work",
            key.access_key
        ));
    }
    if item.action == Action::Keep && !item.steps.is_empty() {
        item.action = Action::Change;
    }
    item
}

/// Keys of runs that were killed.
fn leftovers(item: &mut Item, observed: &Observed) {
    let seen = &observed.spaces;
    for key in &seen.temporary {
        item.steps.push(Step::RemoveKey { access_key: key.access_key.clone(), why: "temporary, left by a run that was killed" });
    }
    let used = |key: &&SpacesKey| [&seen.held, &seen.retiring].into_iter().flatten().any(|used| *used == key.access_key);
    for key in seen.scoped.iter().filter(|key| !used(key)) {
        item.steps.push(Step::RemoveKey { access_key: key.access_key.clone(), why: "its secret was lost with a run that was killed" });
    }
}

fn no_region(observed: &Observed) -> String {
    let region = &observed.cluster.region;
    let hint = nearest(region).map_or_else(String::new, |near| format!("; {near} is the nearest"));
    format!("Spaces: there is none in the cluster's region {region}: write spaces.region{hint}")
}
