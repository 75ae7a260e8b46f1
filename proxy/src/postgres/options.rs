//! `[pure]` The `options` of a StartupMessage: a command line for the server's process, read as the server reads it.
//!
//! Words are separated by white space; a backslash takes the next character as it is. Only settings are taken (`-c name=value`,
//! `-cname=value`, `--name=value`); the server's other switches are for its developers.

use super::startup::Refusal;

/// A setting's name and the value that is wanted.
pub type Setting = (Vec<u8>, Vec<u8>);

/// The settings in `options`, in their order: of two for one name the later counts.
///
/// # Errors
/// Something else is in it, or a setting without a value; in the server's words.
pub fn parse(options: &[u8]) -> Result<Vec<Setting>, Refusal> {
    let mut words = split(options).into_iter();
    let mut settings = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.as_slice() {
            // An end of switches, and whatever follows, is nothing that a server's process takes.
            b"--" => return Err(invalid(&words.next().unwrap_or(word))),
            [b'-', b'-', assignment @ ..] => assign("--", assignment)?,
            b"-c" => match words.next() {
                Some(assignment) => assign("-c ", &assignment)?,
                None => return Err(invalid(&word)),
            },
            [b'-', b'c', assignment @ ..] => assign("-c ", assignment)?,
            _ => return Err(invalid(&word)),
        };
        settings.push(setting);
    }
    Ok(settings)
}

/// The words, backslashes undone.
fn split(options: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = options.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => words.extend(word.take()),
            // One at the very end stands for nothing.
            b'\\' => word.get_or_insert_default().extend(bytes.next()),
            byte => word.get_or_insert_default().push(*byte),
        }
    }
    words.extend(word);
    words
}

/// `name=value`, where the name may be written with hyphens.
fn assign(switch: &str, assignment: &[u8]) -> Result<Setting, Refusal> {
    let mut parts = assignment.splitn(2, |byte| *byte == b'=');
    let name = parts.next().unwrap_or_default();
    match parts.next() {
        Some(value) => Ok((name.iter().map(|byte| if *byte == b'-' { b'_' } else { *byte }).collect(), value.to_vec())),
        None => Err(Refusal { code: "42601", text: format!("{switch}{} requires a value", String::from_utf8_lossy(name)) }),
    }
}

fn invalid(word: &[u8]) -> Refusal {
    let text = format!("invalid command-line argument for server process: {}", String::from_utf8_lossy(word));
    Refusal { code: "42601", text }
}

/// For fuzzing: foreign bytes as options. Must never panic.
pub fn fuzz(data: &[u8]) {
    if let Ok(settings) = parse(data) {
        // What was understood is understood again, written out in one way.
        let mut written = Vec::new();
        for (name, value) in &settings {
            written.extend_from_slice(b" -c ");
            for byte in [name, &b"="[..], value].concat() {
                written.extend_from_slice(&[b'\\', byte]);
            }
        }
        assert_eq!(parse(&written).ok(), Some(settings));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_the_server_reads_them() {
        for (options, expected) in [
            (&b""[..], &[][..]),
            (b"  \t\n", &[]),
            (b"-c statement_timeout=5s", &[("statement_timeout", "5s")]),
            (b"-cgeqo=off  -c\tjit=off", &[("geqo", "off"), ("jit", "off")]),
            (b"--statement-timeout=5s --search_path=a,b", &[("statement_timeout", "5s"), ("search_path", "a,b")]),
            (b"-c statement-timeout=5s", &[("statement_timeout", "5s")]),
            (b"-c my.own-thing=a-b=c", &[("my.own_thing", "a-b=c")]),
            (br"-c search_path=a,\ b", &[("search_path", "a, b")]),
            (br"-c application_name=it\'s\\mine\ ", &[("application_name", r"it's\mine ")]),
            (br#"-c search_path="$user",'x'"#, &[("search_path", r#""$user",'x'"#)]),
            (br"-c DateStyle=ISO\", &[("DateStyle", "ISO")]),
            (b"-c x=", &[("x", "")]),
            (b"-c =x", &[("", "x")]),
            (b"-c x=1 -c X=2", &[("x", "1"), ("X", "2")]),
            (b"-c -c=1", &[("_c", "1")]),
        ] {
            let expected: Vec<Setting> =
                expected.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
            assert_eq!(parse(options).unwrap(), expected, "{}", options.escape_ascii());
        }
    }

    #[test]
    fn everything_else_is_refused_in_the_servers_words() {
        for (options, text) in [
            (&b"-c"[..], "invalid command-line argument for server process: -c"),
            (b"-c geqo", "-c geqo requires a value"),
            (b"-cgeqo", "-c geqo requires a value"),
            (b"--geqo", "--geqo requires a value"),
            (b"-e", "invalid command-line argument for server process: -e"),
            (b"-c a=1 -d 5", "invalid command-line argument for server process: -d"),
            (b"-- a=1", "invalid command-line argument for server process: a=1"),
            (b"--", "invalid command-line argument for server process: --"),
            (b"geqo=off", "invalid command-line argument for server process: geqo=off"),
            (b"-", "invalid command-line argument for server process: -"),
        ] {
            let refusal = parse(options).unwrap_err();
            assert_eq!((refusal.code, refusal.text.as_str()), ("42601", text), "{}", options.escape_ascii());
        }
    }

    #[test]
    fn fuzz_body_on_random_bytes() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..20_000 {
            let words = [&b"-c "[..], b"-c", b"--", b" ", b"\\", b"=", b"a", b"b-c", b"\xff", b"\n"];
            let data: Vec<u8> = (0..random.usize(0..12)).flat_map(|_| random.choice(words).unwrap()).copied().collect();
            fuzz(&data);
        }
    }
}
