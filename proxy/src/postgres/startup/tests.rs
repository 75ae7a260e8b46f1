//! Every prefix and many mutations of first packets, and the rewritten ones read back.

use proptest::prelude::*;

use super::*;

fn packet(code: u32, rest: &[u8]) -> Bytes {
    let mut out = (u32::try_from(rest.len()).unwrap() + 8).to_be_bytes().to_vec();
    out.extend(code.to_be_bytes());
    out.extend(rest);
    out.into()
}

const V3: u32 = 3 << 16;

fn startup(strings: &[u8]) -> Result<Startup, Refusal> {
    parse(packet(V3, strings)).map(|first| match first {
        First::Startup(startup) => startup,
        other => panic!("{other:?}"),
    })
}

#[test]
fn requests_are_recognised_by_code_and_length() {
    assert_eq!(parse(Bytes::from_static(&SSL_REQUEST)), Ok(First::Ssl));
    assert_eq!(parse(packet(GSSENC_REQUEST_CODE, b"")), Ok(First::Gss));
    for code in [SSL_REQUEST_CODE, GSSENC_REQUEST_CODE] {
        assert_eq!(parse(packet(code, b"x")).unwrap_err().code, "08P01");
    }
    for (key_bytes, good) in [(0, false), (1, true), (4, true), (32, true), (256, true), (257, false)] {
        let cancel = packet(CANCEL_REQUEST_CODE, &vec![7; 4 + key_bytes]);
        let expected = if good { Ok(First::Cancel(cancel.clone())) } else { Err("08P01") };
        assert_eq!(parse(cancel).map_err(|refusal| refusal.code), expected, "{key_bytes}");
    }
    assert_eq!(parse(packet(CANCEL_REQUEST_CODE, b"abc")).unwrap_err().code, "08P01");
}

#[test]
fn lengths_have_postgresqls_bounds() {
    for bad in [i32::MIN, -1, 0, 3, 4, 7, 10_005, i32::MAX] {
        assert_eq!(packet_bytes(bad.to_be_bytes()).unwrap_err().code, "08P01", "{bad}");
    }
    for good in [8i32, 10_000, 10_004] {
        assert_eq!(packet_bytes(good.to_be_bytes()), Ok(usize::try_from(good).unwrap()));
    }
}

#[test]
fn only_protocol_3_is_spoken_in_any_minor_version() {
    for minor in [0, 1, 2, 9999, 0xffff] {
        let First::Startup(startup) = parse(packet(V3 | minor, b"user\0a\0\0")).unwrap() else { panic!() };
        assert_eq!(startup.version(), (3, u16::try_from(minor).unwrap()));
    }
    for other in [0, 2 << 16, 4 << 16, 1234 << 16 | 5681, u32::MAX] {
        assert_eq!(parse(packet(other, b"user\0a\0\0")).unwrap_err().code, "0A000", "{other:#x}");
    }
    assert!(parse(packet(2 << 16, b"")).unwrap_err().to_string().contains("protocol 2.0"));
}

#[test]
fn parameters_are_found_in_order() {
    let startup = startup(b"user\0harbor\0database\0registry\0options\0-c x=y\0_pq_.thing\0\0replication\0database\0\0").unwrap();
    assert_eq!(startup.user(), b"harbor");
    assert_eq!(startup.chosen_database(), Some(&b"registry"[..]));
    assert_eq!(startup.parameter("_pq_.thing"), Some(&b""[..]));
    assert_eq!(startup.parameter("absent"), None);
    assert_eq!(startup.parameters().count(), 5);
    assert_eq!(
        format!("{startup:?}"),
        r#"Startup { version: (3, 0), names: ["user", "database", "options", "_pq_.thing", "replication"] }"#
    );
}

#[test]
fn layout_mistakes_are_named() {
    for (strings, code) in [
        (&b""[..], "08P01"),
        (b"\0", "28000"),
        (b"database\0x\0\0", "28000"),
        (b"user\0\0\0", "28000"),
        (b"user\0a\0", "08P01"),
        (b"user\0a", "08P01"),
        (b"user\0\0", "08P01"),
        (b"user\0a\0database\0\0", "08P01"),
        (b"user\0a\0database\0", "08P01"),
        (b"user\0a\0\0\0", "08P01"),
        (b"user\0a\0\0x", "08P01"),
        (b"user\0a\0\0x\0y\0\0", "08P01"),
        // What a NUL in a foreign value makes.
        (b"user\0a\0database\0x\0user\0postgres\0\0", "08P01"),
        (b"user\0a\0database\0x\0database\0y\0\0", "08P01"),
        (b"user\0\0user\0a\0\0", "08P01"),
    ] {
        assert_eq!(startup(strings).unwrap_err().code, code, "{:?}", String::from_utf8_lossy(strings));
    }
}

#[test]
fn every_prefix_and_every_changed_byte_is_judged_calmly() {
    let whole = packet(V3, b"user\0harbor\0database\0registry\0\0");
    for cut in 0..whole.len() {
        assert!(parse(whole.slice(..cut)).is_err(), "cut at {cut}");
        // The same with an honest length: now the content is what is missing.
        let mut honest = whole[..cut].to_vec();
        if cut >= 8 {
            honest[..4].copy_from_slice(&u32::try_from(cut).unwrap().to_be_bytes());
            assert!(parse(honest.into()).is_err(), "honestly cut at {cut}");
        }
    }
    for position in 0..whole.len() {
        for byte in [0, 1, 4, b'u', 0x7f, 0x80, 0xff] {
            let mut mutated = whole.to_vec();
            mutated[position] = byte;
            if let Ok(First::Startup(startup)) = parse(mutated.into()) {
                assert!(!startup.user().is_empty(), "{byte} at {position}");
            }
        }
    }
}

#[test]
fn a_database_equal_to_the_user_was_not_chosen() {
    assert_eq!(startup(b"user\0a\0database\0a\0\0").unwrap().chosen_database(), None);
    assert_eq!(startup(b"user\0a\0database\0\0\0").unwrap().chosen_database(), None);
    assert_eq!(startup(b"user\0a\0\0").unwrap().chosen_database(), None);
}

#[test]
fn user_and_database_are_replaced_and_nothing_else() {
    let original = startup(b"application_name\0x\0user\0a\0_pq_.y\0z\0database\0b\0options\0-c a=b\0\0").unwrap();
    let with = original.with_login(b"doadmin", Some(b"registry")).unwrap();
    assert_eq!(with[8..], *b"user\0doadmin\0database\0registry\0application_name\0x\0_pq_.y\0z\0options\0-c a=b\0\0");
    let without = original.with_login(b"doadmin", None).unwrap();
    assert_eq!(without[8..], *b"user\0doadmin\0application_name\0x\0_pq_.y\0z\0options\0-c a=b\0\0");
    for (user, database) in [(&b"a\0b"[..], &b"x"[..]), (b"a", b"x\0user\0root"), (b"", b"x"), (&[b'a'; 10_000], b"x")] {
        assert!(original.with_login(user, Some(database)).is_err());
    }
}

#[test]
fn a_user_for_people_is_short_and_printable() {
    let startup = startup(&[b"user\0\x1b[2J\xff", &[b'a'; 100][..], b"\0\0"].concat()).unwrap();
    let shown = startup.user_for_display();
    assert!(shown.starts_with("?[2J\u{fffd}aaa") && shown.len() < 70, "{shown}");
}

#[test]
fn fuzz_body_on_random_bytes() {
    let mut random = fastrand::Rng::with_seed(80_877_103);
    for _ in 0..5_000 {
        let mut data: Vec<u8> = (0..random.usize(0..120)).map(|_| *random.choice(b"user\0\0\0database\xff\x03a").unwrap()).collect();
        if random.bool() {
            data.splice(0..0, *b"\0\0\0\0\0\x03\0\0user\0a\0");
        }
        fuzz(&data);
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        parameters in proptest::collection::vec(("[a-z_.]{1,12}", "[^\0]{0,30}"), 0..12),
        user in "[^\0]{1,30}",
        database in proptest::option::of("[^\0]{0,30}"),
        minor in any::<u16>(),
    ) {
        let others: Vec<_> = parameters.into_iter().filter(|(name, _)| name != "user" && name != "database").collect();
        let mut strings = Vec::new();
        let middle = others.len() / 2;
        for (index, (name, value)) in others.iter().enumerate() {
            if index == middle {
                strings.extend(b"user\0someone\0");
            }
            strings.extend(format!("{name}\0{value}\0").bytes());
        }
        if others.is_empty() {
            strings.extend(b"user\0someone\0");
        }
        strings.push(0);
        let First::Startup(original) = parse(packet(V3 | u32::from(minor), &strings)).unwrap() else { panic!() };
        let rewritten = original.with_login(user.as_bytes(), database.as_deref().map(str::as_bytes)).unwrap();
        let First::Startup(again) = parse(rewritten).unwrap() else { panic!() };
        prop_assert_eq!(again.user(), user.as_bytes());
        prop_assert_eq!(again.parameter("database"), database.as_deref().map(str::as_bytes));
        prop_assert_eq!(again.version(), (3, minor));
        let kept: Vec<_> = again.parameters().filter(|(name, _)| *name != b"user" && *name != b"database").collect();
        let sent: Vec<_> = others.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        prop_assert_eq!(kept, sent);
    }
}

#[test]
fn a_cancel_request_says_whom_it_means() {
    for secret in [&[1, 2, 3, 4][..], &[9; 32]] {
        let packet = cancel_request(77, secret);
        assert_eq!(parse(packet.clone().into()), Ok(First::Cancel(packet.clone().into())));
        assert_eq!(cancel_key(&packet), Some((77, secret)));
    }
    assert_eq!(cancel_key(&[0; 11]), None);
}
