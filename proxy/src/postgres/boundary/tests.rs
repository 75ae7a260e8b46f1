//! Conversations as drivers have them, cut in all ways, and bytes that are no conversation.

use proptest::prelude::*;

use super::*;

/// `>`: from the client, `<`: from the server; each letter a message with an empty body, `I`, `T`, `X` (after `<`) ReadyForQuery.
fn play(script: &str) -> Boundary {
    let mut boundary = Boundary::new();
    let mut from_client = true;
    for letter in script.chars() {
        match letter {
            '>' => from_client = true,
            '<' => from_client = false,
            ' ' => {}
            kind if from_client => boundary.on_client(&message(kind as u8, b"")),
            'I' => boundary.on_upstream(&message(b'Z', b"I")),
            'T' => boundary.on_upstream(&message(b'Z', b"T")),
            kind => boundary.on_upstream(&message(kind as u8, b"body")),
        }
    }
    boundary
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend((u32::try_from(body.len()).unwrap() + 4).to_be_bytes());
    out.extend(body);
    out
}

#[test]
fn conversations() {
    for (idle, script) in [
        (false, ""),
        (false, "<SSK"),
        (true, "<SSKI"),
        (true, "<I >Q <tDDCI"),
        (false, "<I >Q <tDDC"),
        (false, "<I >Q <tDDCT"),
        (true, "<I >Q <CT >Q <CI"),
        (false, "<I >QQ <CI"),
        (true, "<I >QQ <CI <CI"),
        (true, "<I >PBDES <12tDCI"),
        (false, "<I >PBDES <12tDC"),
        (false, "<I >PBDES <12tDCI >P"),
        (false, "<I >PDH <1"),
        (true, "<I >PDH <1t >BES <2CI"),
        (true, "<I >PBES PBES <12CI 12CI"),
        (false, "<I >PBES PBES <12CI 12C"),
        (true, "<I >F <VI"),
        // An error skips the rest of the batch up to its Sync.
        (true, "<I >PBES <EI"),
        // It skips a Query too, whose answer then never comes: busy for good rather than idle by mistake.
        (false, "<I >PBE Q S <EI"),
        // Notices, parameters and notifications while idle change nothing.
        (true, "<I N S A"),
        // COPY out.
        (true, "<I >Q <HddcCI"),
        // COPY in by Query, as psql and pgx have it; with one end too many, as postgres.js.
        (false, "<I >Q <G"),
        (false, "<I >Q <G >dd"),
        (false, "<I >Q <G >ddc"),
        (true, "<I >Q <G >ddc <CI"),
        (true, "<I >Q <G >ddcf <CI"),
        (true, "<I >Q <G >ddcf <CI >Q <CI"),
        // All at once, without waiting for CopyInResponse.
        (true, "<I >Qddc <GCI"),
        (true, "<I >Q <G >f <EI"),
        // Two COPY in one Query.
        (true, "<I >Q <G >dc <CG >dc <CI"),
        // It fails while the client is still sending: stragglers are ignored.
        (true, "<I >Q <G >d <EI >ddc"),
        (true, "<I >Q <G >d <EI >ddc >PBES <12CI"),
        // COPY in by Execute with a Sync right behind it, which the server ignores.
        (false, "<I >PBES <12G"),
        (false, "<I >PBES <12G >dd"),
        (false, "<I >PBES <12G >ddc <C"),
        (false, "<I >PBES <12G >ddcS <C"),
        (true, "<I >PBES <12G >ddcS <CI"),
        (true, "<I >PBESdcS <12GCI"),
        (true, "<I >PBE <12G >dcS <CI"),
        (true, "<I >PBEdcS <12GCI"),
        (false, "<I >PBEdcSP <12GCI"),
        (true, "<I >PBES <12G >SSdScS <CI"),
        // It fails: nobody knows which of the two Syncs is answered.
        (false, "<I >PBES <12G >d <EI"),
        (false, "<I >PBES <12G >dcS <EI"),
        (false, "<I >PBES <12G >dcS <EII"),
        // Without an ignored Sync it is known.
        (true, "<I >PBE <12G >d <E >cS <I"),
        // Things no driver should do.
        (false, "<I >Q <G >Q <EI"),
        (false, "<I >PBES Q <12CI <G >dc <CI"),
        (false, "<I <I"),
        (false, "<I >Q <W >d"),
    ] {
        assert_eq!(play(script).is_idle(), idle, "{script}");
    }
}

#[test]
fn half_messages_are_not_idle() {
    let idle = play("<I");
    for cut in 1..9 {
        for feed in [Boundary::on_client, Boundary::on_upstream] {
            let mut boundary = idle.clone();
            feed(&mut boundary, &message(b'd', b"body")[..cut]);
            assert_eq!(boundary.is_idle(), cut == 0, "cut at {cut}");
            feed(&mut boundary, &message(b'd', b"body")[cut..]);
            assert!(boundary.is_idle(), "cut at {cut}");
        }
    }
}

#[test]
fn nonsense_is_never_idle_again() {
    for nonsense in [&b"Z\0\0\0\x03"[..], b"Z\0\0\0\0", b"Z\xff\xff\xff\xff", b"Z\x80\0\0\0", b"Z\0\0\0\x04", b"Z\0\0\0\x06II"] {
        let mut boundary = play("<I");
        boundary.on_upstream(nonsense);
        boundary.on_upstream(&message(b'Z', b"I"));
        assert!(!boundary.is_idle(), "{nonsense:?}");
    }
    let mut boundary = play("<I");
    boundary.on_client(b"GET / HTTP/1.1\r\n\r\n");
    assert!(!boundary.is_idle());
}

#[test]
fn a_gigabyte_is_only_counted() {
    let mut boundary = play("<I");
    boundary.on_client(b"Q\x40\0\0\x04");
    let chunk = vec![0; 1 << 20];
    for _ in 0..1 << 10 {
        assert!(!boundary.is_idle());
        boundary.on_client(&chunk);
    }
    boundary.on_upstream(&message(b'Z', b"I"));
    assert!(boundary.is_idle());
    assert!(size_of::<Boundary>() <= 64, "{}", size_of::<Boundary>());
}

#[test]
fn fuzz_body_on_random_bytes() {
    let mut random = fastrand::Rng::with_seed(1986);
    for _ in 0..3_000 {
        let data: Vec<u8> =
            (0..random.usize(0..200)).map(|_| *random.choice(b"QSPBEGZcfdWIT\0\0\0\0\0\0\x04\x04\x05\xff").unwrap()).collect();
        fuzz(&data);
    }
}

proptest! {
    #[test]
    fn cuts_do_not_matter(
        messages in proptest::collection::vec((any::<bool>(), proptest::sample::select(&b"QSPBEdcfHXZGCENTDW"[..]), 0usize..20), 0..30),
        cut in 1usize..40,
    ) {
        let (mut whole, mut cut_up) = (Boundary::new(), Boundary::new());
        for (from_client, kind, length) in messages {
            let body = if kind == b'Z' { vec![b'I'] } else { vec![b'x'; length] };
            let bytes = message(kind, &body);
            let feed = if from_client { Boundary::on_client } else { Boundary::on_upstream };
            feed(&mut whole, &bytes);
            bytes.chunks(cut).for_each(|chunk| feed(&mut cut_up, chunk));
            prop_assert_eq!(&whole, &cut_up);
        }
    }

    #[test]
    fn idle_means_as_many_answers_as_questions(steps in proptest::collection::vec(proptest::sample::select(&b"QSPZ"[..]), 0..40)) {
        let mut boundary = play("<I");
        let (mut owed, mut open, mut extra) = (0, false, false);
        for step in steps {
            match step {
                b'Z' => {
                    boundary.on_upstream(&message(b'Z', b"I"));
                    extra |= owed == 0;
                    owed -= 1;
                }
                kind => {
                    boundary.on_client(&message(kind, b""));
                    open = kind == b'P';
                    owed += i32::from(kind != b'P');
                }
            }
            prop_assert_eq!(boundary.is_idle(), owed == 0 && !open && !extra);
        }
    }
}
