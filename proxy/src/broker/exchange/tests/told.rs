//! Columns as clients were told them, by several names at once: see `shapes`.

use fastrand::Rng;

use super::super::*;
use super::shapes::{Place, messages};
use super::*;

/// What a step of a batch does, by which name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Close,
    Parse,
    Fail,
    Describe,
    Run { portal: bool },
}

/// A client's name as the client knows it: whether it is there, the table's version when it was parsed, what was told since.
#[derive(Clone, Default)]
struct Known {
    parsed: Option<u64>,
    told: Option<String>,
}

/// Several names of two texts, in batches that fail halfway, on connections where statements vanish.
#[test]
fn by_whatever_name_rows_have_the_columns_that_the_client_was_told() {
    const NAMES: [(&str, &[u8]); 4] = [("", b""), ("s", b""), ("t", b""), ("o", b"\x17")];
    let mut all = (0, 0, 0);
    for seed in 0..2_000 {
        let mut rng = Rng::with_seed(seed);
        let mut place = Place::new();
        let mut clients: Vec<(Client, [Known; 4])> = (1..=3).map(|id| (place.client(id), <[Known; 4]>::default())).collect();
        for step in 0..30 {
            let wire = rng.usize(..2);
            match rng.u8(..20) {
                0 | 1 => place.world.version += 1,
                2 => place.wires[wire].1.discard(),
                _ => {}
            }
            let now = place.world.version;
            let (client, known) = rng.choice(&mut clients).unwrap();
            // As the client knows it if all goes well.
            let mut there: [bool; 4] = std::array::from_fn(|at| known[at].parsed.is_some());
            let (mut parts, mut bytes) = (Vec::new(), Vec::new());
            for _ in 0..rng.usize(1..6) {
                let at = rng.usize(..4);
                let (name, types) = NAMES[at];
                if rng.u8(..12) == 0 {
                    parts.push((at, Part::Fail));
                    bytes.push(parse("f", "syntax"));
                    continue;
                }
                if !there[at] || rng.u8(..4) == 0 {
                    if there[at] && (at > 0 || rng.bool()) {
                        parts.push((at, Part::Close));
                        bytes.push(close(name));
                    }
                    let count = u8::try_from(types.len()).unwrap();
                    let types = types.iter().flat_map(|oid| [0, 0, 0, *oid]).collect::<Vec<_>>();
                    parts.push((at, Part::Parse));
                    bytes.push(msg(b'P', &[name.as_bytes(), b"\0star\0\0", &[count], &types].concat()));
                    there[at] = true;
                }
                if rng.u8(..3) == 0 {
                    parts.push((at, Part::Describe));
                    bytes.push(describe(name));
                }
                if rng.u8(..4) > 0 {
                    let portal = rng.u8(..3) == 0;
                    parts.push((at, Part::Run { portal }));
                    bytes.push(bind(name));
                    bytes.extend(portal.then(|| msg(b'D', b"P\0")));
                    bytes.push(execute());
                }
            }
            bytes.push(sync());
            let heard = place.batch_raw(client, wire, &bytes);
            let what = format!("seed {seed}, step {step}, wire {wire}: {parts:?}, {}", heard.escape_ascii());
            let mut heard = messages(&heard).into_iter();
            let mut next = || heard.next().unwrap_or_else(|| panic!("{what}"));
            let mut failed = None;
            'parts: for (at, part) in &parts {
                let known = &mut known[*at];
                let wanted = match part {
                    Part::Close => "3",
                    Part::Parse => "1",
                    Part::Fail => "!",
                    Part::Describe => "tT",
                    Part::Run { portal: false } => "2DC",
                    Part::Run { portal: true } => "2TDC",
                };
                for kind in wanted.chars() {
                    let (heard, version, body) = next();
                    if heard == 'E' {
                        failed = Some((*at, *part, body));
                        break 'parts;
                    }
                    assert_eq!(heard, kind, "{what}");
                    match kind {
                        '3' => *known = Known::default(),
                        '1' => *known = Known { parsed: Some(now), told: None },
                        'T' => known.told = version,
                        'D' => {
                            assert!(known.told.is_none() || known.told == version, "{:?}: {what}", known.told);
                            all.0 += 1;
                        }
                        _ => {}
                    }
                }
            }
            if let Some((at, part, error)) = failed {
                if part == Part::Fail {
                    assert!(error.contains("C42601"), "{what}");
                } else if error.contains("C0A000") {
                    // Behind an answer to something else a batch cannot be sent again, nor where the text is asked for by another name as well.
                    let before: Vec<_> = parts.iter().take_while(|other| **other != (at, part)).collect();
                    let is_first = before.iter().all(|(other, part)| *other == at && matches!(part, Part::Close | Part::Parse));
                    let is_alone = at == 3 || parts.iter().all(|(other, _)| [at, 3].contains(other));
                    assert!(!is_first || !is_alone || !before.contains(&&(at, Part::Parse)), "{at}: {what}");
                    all.1 += 1;
                } else {
                    assert!(error.contains("C26000") && !error.contains("_rtp_"), "{what}");
                    all.2 += 1;
                }
            }
            assert_eq!(next().0, 'Z', "{what}");
        }
        for (server, session) in &place.wires {
            assert!(session.names().count() <= server.prepared(), "seed {seed}");
        }
    }
    assert!(all.0 > 10_000 && all.1 > 1_000, "{all:?}");
}
