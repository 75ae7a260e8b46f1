//! How long a reply is, without decoding it.

/// How long the first frame is, once it is whole.
pub(crate) fn frame_length(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    let mut frames: u64 = 1;
    while frames > 0 {
        let Some(end) = bytes[at..].iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line = &bytes[at..at + end];
        let Some((kind, number)) = line.strip_suffix(b"\r").and_then(|line| line.split_first()) else {
            return Err(format!("not RESP: {}", show(&bytes[at..])));
        };
        at += end + 1;
        frames -= 1;
        let number =
            || str::from_utf8(number).ok().and_then(|text| text.parse::<i64>().ok()).ok_or_else(|| format!("no number: {}", show(line)));
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {}
            b'$' | b'=' | b'!' => at += usize::try_from(number()?).map_or(0, |length| length + 2),
            b'*' | b'~' | b'>' => frames += u64::try_from(number()?).unwrap_or(0),
            b'%' => frames += 2 * u64::try_from(number()?).unwrap_or(0),
            _ => return Err(format!("not RESP: {}", show(line))),
        }
        if at > bytes.len() {
            return Ok(None);
        }
    }
    Ok(Some(at))
}

/// Bytes for people, not too many.
pub(crate) fn show(bytes: &[u8]) -> String {
    let rest = bytes.len().saturating_sub(200);
    let shown = bytes[..bytes.len() - rest].escape_ascii();
    if rest > 0 { format!("\"{shown}\" and {rest} bytes more") } else { format!("\"{shown}\"") }
}

#[test]
fn frames_are_measured() {
    for whole in ["+OK\r\n", "$3\r\na\r\n\r\n", "$-1\r\n", "*2\r\n*1\r\n:1\r\n%1\r\n+k\r\n_\r\n", ">1\r\n$0\r\n\r\n", "*-1\r\n", "*0\r\n"] {
        let more = format!("{whole}:7\r\n");
        assert_eq!(frame_length(more.as_bytes()), Ok(Some(whole.len())), "{whole:?}");
        for cut in 0..whole.len() {
            assert_eq!(frame_length(&whole.as_bytes()[..cut]), Ok(None), "{whole:?} cut at {cut}");
        }
    }
    assert!(frame_length(b"hello\r\n").is_err());
}
