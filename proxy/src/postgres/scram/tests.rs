//! The published vector, both halves against each other, and every message tampered with.

use super::*;

const SALT: [u8; 16] = [7; 16];

fn secret(text: &str) -> SecretString {
    text.to_owned().into()
}

/// Runs a whole exchange; `tamper(step, message)` may change each message on its way.
fn exchange(client: &str, server: &str, tamper: impl Fn(usize, String) -> String) -> Result<(), ScramError> {
    let few = NonZeroU32::new(8).unwrap();
    let verifier = Verifier::new(&secret(server), SALT, few);
    let start = Start::new(&nonce([1; 18]), Binding::Unable);
    let (running, server_first) = Exchange::first(&verifier, tamper(0, start.message()).as_bytes(), &nonce([2; 18]))?;
    let challenge = start.update(tamper(1, server_first).as_bytes())?;
    let keys = Keys::derive(&secret(client), challenge.salt(), challenge.iterations());
    let (client_final, end) = challenge.answer(&keys);
    let server_final = running.finish(tamper(2, client_final).as_bytes())?;
    end.finish(tamper(3, server_final).as_bytes())
}

fn untouched(_: usize, message: String) -> String {
    message
}

#[test]
fn rfc_7677_section_3() {
    let server_first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    let start = Start::for_user("user", "rOprNGfwEbeRWgbNEkqO", Binding::Unable);
    assert_eq!(start.message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let challenge = start.update(server_first.as_bytes()).unwrap();
    let keys = Keys::derive(&secret("pencil"), challenge.salt(), challenge.iterations());
    let (message, end) = challenge.answer(&keys);
    let client_final = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    assert_eq!(message, client_final);
    let server_final = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    end.finish(server_final.as_bytes()).unwrap();

    let salt = decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
    let verifier = Verifier::new(&secret("pencil"), salt, DEFAULT_ITERATIONS);
    let (running, answer) = Exchange::first(&verifier, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0").unwrap();
    assert_eq!(answer, server_first);
    assert_eq!(running.finish(client_final.as_bytes()).unwrap(), server_final);
}

#[test]
fn the_right_password_and_no_other() {
    assert_eq!(exchange("s3cret", "s3cret", untouched), Ok(()));
    assert!(matches!(exchange("s3cret", "s3creT", untouched), Err(ScramError::Refused("the password is wrong"))));
    assert!(matches!(exchange("", "s3cret", untouched), Err(ScramError::Refused(_))));
}

#[test]
fn passwords_are_prepared_and_impossible_ones_used_as_they_are() {
    // U+00AA is normalised to "a", U+00AD is dropped (RFC 4013, section 3).
    assert_eq!(exchange("\u{aa}b\u{ad}c", "abc", untouched), Ok(()));
    // A control character and unassigned code points are forbidden, so nothing is normalised beside them.
    assert_eq!(exchange("\u{7}\u{aa}", "\u{7}\u{aa}", untouched), Ok(()));
    assert!(exchange("\u{7}\u{aa}", "\u{7}a", untouched).is_err());
}

#[test]
fn no_character_of_any_message_can_be_changed() {
    // The user's name is nobody's: position 5 is behind `n=`, where a character may be inserted but not changed. So every character counts.
    for step in 0..4 {
        for position in 0..200 {
            let flip = |at: usize, message: String| match message.as_bytes().get(position) {
                Some(byte) if at == step => {
                    let other = if *byte == b'A' { "B" } else { "A" };
                    format!("{}{other}{}", &message[..position], &message[position + 1..])
                }
                _ => message,
            };
            let changed = std::cell::Cell::new(false);
            let result = exchange("s3cret", "s3cret", |at, message| {
                let after = flip(at, message.clone());
                changed.set(changed.get() || after != message);
                after
            });
            assert_eq!(result.is_err(), changed.get(), "step {step}, position {position}: {result:?}");
        }
    }
}

#[test]
fn every_cut_of_every_message_is_refused() {
    for step in 0..4 {
        for cut in 0..40 {
            let result = exchange("s3cret", "s3cret", |at, mut message| {
                if at == step {
                    message.truncate(message.len().saturating_sub(cut + 1));
                }
                message
            });
            assert!(result.is_err(), "step {step}, {cut} characters short: {result:?}");
        }
    }
}

/// A server's half with channel binding, which ours does not have: what it makes of a login bound to `theirs` when its certificate has `own`.
fn bound(binding: Binding<'_>, own: &[u8]) -> bool {
    let few = NonZeroU32::new(8).unwrap();
    let start = Start::new("client", binding);
    let first = start.message();
    let first_bare = first.split_once(",,").unwrap().1.to_owned();
    assert!(first.starts_with("p=tls-server-end-point,,n=,r="), "{first}");
    let server_first = format!("r=clientserver,s={},i=8", encode(&SALT));
    let keys = Keys::derive(&secret("s3cret"), &SALT, few);
    let (last, _) = start.update(server_first.as_bytes()).unwrap().answer(&keys);
    let (without_proof, proof) = last.rsplit_once(",p=").unwrap();
    let signature = mac(&keys.stored_key(), &[format!("{first_bare},{server_first},{without_proof}").as_bytes()]);
    let client_key = xor(decode(proof).unwrap().try_into().unwrap(), signature);
    assert_eq!(sha256(&client_key), keys.stored_key(), "the proof covers the binding");
    let binding = attribute(without_proof, 'c').unwrap().0;
    decode(binding).unwrap() == [b"p=tls-server-end-point,,", own].concat()
}

#[test]
fn a_login_is_bound_to_one_certificate() {
    assert!(bound(Binding::EndPoint(&[5; 32]), &[5; 32]));
    assert!(bound(Binding::EndPoint(&[5; 48]), &[5; 48]));
    assert!(!bound(Binding::EndPoint(&[5; 32]), &[6; 32]));
}

#[test]
fn a_client_that_could_bind_says_so() {
    assert_eq!(Start::new("abc", Binding::NotOffered).message(), "y,,n=,r=abc");
    let (last, _) = Start::new("abc", Binding::NotOffered)
        .update(b"r=abcd,s=AAAA,i=1")
        .unwrap()
        .answer(&Keys { client_key: [1; 32], server_key: [2; 32] });
    // base64 of `y,,`.
    assert!(last.starts_with("c=eSws,r=abcd,p="), "{last}");
}

#[test]
fn a_server_cannot_choose_nonce_salt_or_work() {
    let update =
        |message: &str| Start::new("abc", Binding::Unable).update(message.as_bytes()).map(|challenge| challenge.iterations().get());
    assert_eq!(update("r=abcd,s=AAAA,i=4096"), Ok(4096));
    assert_eq!(update("r=abcd,s=AAAA,i=100000,x=later"), Ok(100_000));
    for bad in [
        "r=abc,s=AAAA,i=4096",
        "r=xabc,s=AAAA,i=4096",
        "r=ab,s=AAAA,i=4096",
        "r=abc d,s=AAAA,i=4096",
        "r=abcd,s=,i=4096",
        "r=abcd,s=A,i=4096",
        "r=abcd,i=4096",
        "r=abcd,s=AAAA,i=0",
        "r=abcd,s=AAAA,i=-1",
        "r=abcd,s=AAAA,i=+1",
        "r=abcd,s=AAAA,i=100001",
        "r=abcd,s=AAAA,i=99999999999999999999",
        "r=abcd,s=AAAA,i=",
        "r=abcd,s=AAAA",
        "m=x,r=abcd,s=AAAA,i=4096",
        "e=other-error",
        "",
    ] {
        assert!(update(bad).is_err(), "{bad}");
    }
    let long = format!("r=abcd,s={},i=1", encode(&[0; MAX_SALT_BYTES + 1]));
    assert!(update(&long).is_err());
}

#[test]
fn a_client_cannot_bind_or_impersonate() {
    let verifier = Verifier::new(&secret("x"), SALT, NonZeroU32::MIN);
    let first = |message: &str| Exchange::first(&verifier, message.as_bytes(), "def").map(|(_, answer)| answer);
    assert!(first("n,,n=,r=abc").unwrap().starts_with("r=abcdef,s="));
    assert!(first("y,,n=anyone,r=abc").is_ok());
    for bad in
        ["p=tls-server-end-point,,n=,r=abc", "n,a=root,n=,r=abc", "n,,m=x,n=,r=abc", "n,,r=abc", "n,,n=", "n,,n=,r=", "x,,n=,r=a", "", "ü"]
    {
        assert!(first(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_cache_follows_password_salt_and_iterations() {
    let cache = KeyCache::default();
    let few = NonZeroU32::new(3).unwrap();
    let key = |password: &str, salt: &[u8], iterations| cache.keys(&secret(password), salt, iterations).client_key;
    let first = key("a", b"salt", few);
    assert_eq!(first, key("a", b"salt", few));
    for other in [key("b", b"salt", few), key("a", b"salz", few), key("a", b"salt", NonZeroU32::MIN)] {
        assert_ne!(first, other);
    }
    assert_eq!(first, Keys::derive(&secret("a"), b"salt", few).client_key);
    assert_eq!(format!("{cache:?} {:?}", Keys::derive(&secret("a"), b"x", few)), "KeyCache(***) Keys(***)");
}

#[test]
fn fuzz_body_on_random_bytes() {
    let mut random = fastrand::Rng::with_seed(7677);
    for _ in 0..5_000 {
        let mut data: Vec<u8> = (0..random.usize(0..80)).map(|_| *random.choice(b"nrscipve=,,,=AbQ0a1/+\xff\0 ").unwrap()).collect();
        if random.bool() {
            data.splice(0..0, *b"r=abcdef");
        }
        fuzz(&data);
    }
}
