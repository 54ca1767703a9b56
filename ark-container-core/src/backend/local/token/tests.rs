use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::OrganizationId;

const PATH: &str = "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/extract-video";

fn signer() -> (tempfile::TempDir, Signer) {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::open(folder.path()).unwrap();
    (folder, signer)
}

fn one_repository() -> Scope {
    Scope::repository(PATH.parse().unwrap(), Access::Push)
}

fn soon() -> SystemTime {
    SystemTime::now() + Duration::from_secs(60)
}

fn key(folder: &tempfile::TempDir) -> EncodingKey {
    EncodingKey::from_secret(&fs::read(folder.path().join(KEY_FILE)).unwrap())
}

fn claims(access: Value) -> Value {
    json!({ "iss": ISSUER, "iat": 0, "exp": unix_seconds(soon()), "jti": "x", "access": access })
}

#[test]
fn every_opening_of_a_folder_gives_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let barrier = std::sync::Barrier::new(8);
    let signers: Vec<Signer> = std::thread::scope(|threads| {
        let open = || {
            barrier.wait();
            Signer::open(folder.path()).unwrap()
        };
        let running: Vec<_> = (0..8).map(|_| threads.spawn(open)).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let password = signers[0].sign(&one_repository(), soon()).unwrap();
    for signer in &signers {
        assert_eq!(signer.verify(password.expose()), Ok(one_repository()));
    }
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, [KEY_FILE], "no temporary file stays");
    let mode = fs::metadata(folder.path().join(KEY_FILE)).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_command_that_closes_it() {
    let (folder, _) = signer();
    let path = folder.path().join(KEY_FILE);
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let message = Signer::open(folder.path()).unwrap_err().to_string();
        assert!(message.ends_with(&format!("chmod 600 {}", path.display())), "{message}");
    }
}

#[test]
fn a_damaged_key_is_not_replaced_silently() {
    let (folder, _) = signer();
    fs::write(folder.path().join(KEY_FILE), "short").unwrap();
    let message = Signer::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("is damaged"), "{message}");
}

#[test]
fn an_expired_token_is_told_from_an_invalid_one() {
    let (_folder, signer) = signer();
    let password = signer.sign(&one_repository(), SystemTime::now()).unwrap();
    assert_eq!(signer.verify(password.expose()), Err(TokenError::Expired), "at that very second");
    let past = SystemTime::now() - Duration::from_secs(2);
    let password = signer.sign(&one_repository(), past).unwrap();
    assert_eq!(signer.verify(password.expose()), Err(TokenError::Expired));
    let mut tampered = password.expose().to_owned();
    let last = if tampered.ends_with('A') { 'E' } else { 'A' };
    tampered.pop();
    tampered.push(last);
    assert_eq!(signer.verify(&tampered), Err(TokenError::Invalid));
}

#[test]
fn a_token_of_another_registry_is_invalid() {
    let ((_one, ours), (_other, theirs)) = (signer(), signer());
    let password = theirs.sign(&one_repository(), soon()).unwrap();
    assert_eq!(ours.verify(password.expose()), Err(TokenError::Invalid));
}

#[test]
fn no_byte_of_a_token_can_be_changed() {
    let (_folder, signer) = signer();
    let password = signer.sign(&one_repository(), soon()).unwrap();
    for index in 0..password.expose().len() {
        let mut bytes = password.expose().as_bytes().to_vec();
        bytes[index] = if bytes[index] == b'Q' { b'g' } else { b'Q' };
        let tampered = String::from_utf8(bytes).unwrap();
        assert_eq!(signer.verify(&tampered), Err(TokenError::Invalid), "at {index}");
    }
}

#[test]
fn no_other_algorithm_is_taken() {
    let (folder, signer) = signer();
    let access = json!([{ "type": "repository", "name": PATH, "actions": ["pull"] }]);
    let token = |algorithm| {
        jsonwebtoken::encode(&Header::new(algorithm), &claims(access.clone()), &key(&folder))
            .unwrap()
    };
    assert!(signer.verify(&token(Algorithm::HS256)).is_ok());
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        assert_eq!(signer.verify(&token(algorithm)), Err(TokenError::Invalid));
    }
    // {"alg":"none","typ":"JWT"} before the payload of a good token, with and without a signature.
    let good = token(Algorithm::HS256);
    let (_, rest) = good.split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    for token in [
        format!("{none}.{payload}."),
        format!("{none}.{payload}"),
        format!("{none}.{payload}.{signature}"),
    ] {
        assert_eq!(signer.verify(&token), Err(TokenError::Invalid));
    }
}

#[test]
fn claims_that_no_signer_makes_are_invalid() {
    let (folder, signer) = signer();
    let claim = |name: &str, actions: &[&str]| json!({ "type": "repository", "name": name, "actions": actions });
    let (one, two) = (OrganizationId::TBD, OrganizationId::GLOBAL);
    let all = |stage: &str, organization: OrganizationId| format!("{stage}/{organization}/*");
    for access in [
        json!([]),
        json!([claim(PATH, &[])]),
        json!([claim(PATH, &["push"])]),
        json!([claim(PATH, &["*"])]),
        json!([claim("*", &["pull"])]),
        json!([claim("prod/*", &["pull"])]),
        json!([claim("prod/*/*", &["pull"])]),
        json!([claim("not/a/path", &["pull"])]),
        json!([claim(PATH, &["pull"]), claim(PATH, &["pull"])]),
        json!([claim(&all("prod", one), &["pull"]), claim(&all("dev", two), &["pull"])]),
        json!([claim(&all("prod", one), &["pull"]), claim(&all("prod", two), &["pull", "push"])]),
        json!([claim(PATH, &["pull,push"])]),
        json!([claim(&all("prod", one).replace("2ea2", "2EA2"), &["pull"])]),
        json!([claim(&all("prod", two), &["pull"]), claim(&all("prod", one), &["pull"])]),
        json!([claim(&all("prod", one), &["pull"]), claim(&all("prod", one), &["pull"])]),
        json!([{ "type": "registry", "name": PATH, "actions": ["pull"] }]),
    ] {
        let header = Header::new(Algorithm::HS256);
        let token = jsonwebtoken::encode(&header, &claims(access.clone()), &key(&folder)).unwrap();
        assert_eq!(signer.verify(&token), Err(TokenError::Invalid), "{access}");
    }
    let mut stranger = claims(json!([claim(PATH, &["pull"])]));
    for issuer in [json!("someone-else"), json!(null)] {
        stranger["iss"] = issuer;
        let header = Header::new(Algorithm::HS256);
        let token = jsonwebtoken::encode(&header, &stranger, &key(&folder)).unwrap();
        assert_eq!(signer.verify(&token), Err(TokenError::Invalid));
    }
}

#[test]
fn garbage_is_invalid() {
    let (_folder, signer) = signer();
    for garbage in
        ["", ".", "..", "...", "a.b.c", "é.é.é", &"x".repeat(10_000), &".".repeat(10_000)]
    {
        assert_eq!(signer.verify(garbage), Err(TokenError::Invalid));
    }
}

#[test]
fn a_scope_without_organizations_is_refused() {
    let (_folder, signer) = signer();
    let scope = Scope::organizations(Stage::default(), [], Access::Pull);
    assert!(matches!(signer.sign(&scope, soon()), Err(Error::InvalidInput { .. })));
}

#[test]
fn debug_shows_no_key() {
    let (_folder, signer) = signer();
    assert_eq!(format!("{signer:?}"), "Signer(…)");
}

fn scopes() -> impl Strategy<Value = Scope> {
    let access = proptest::sample::select(vec![Access::Pull, Access::Push, Access::Delete]);
    let organizations = proptest::collection::vec(any::<u128>(), 1..20);
    (access, organizations, "[a-z]{1,8}", proptest::option::of("[a-z]{1,8}(/[a-z]{1,8}){0,3}"))
        .prop_map(|(access, organizations, stage, name)| {
            let stage: Stage = stage.parse().unwrap();
            let ids = organizations.into_iter().map(OrganizationId::from_u128);
            match name {
                None => Scope::organizations(stage, ids, access),
                Some(name) => {
                    let first = ids.into_iter().next().unwrap();
                    let path = RepositoryPath::new(stage, first, name.parse().unwrap());
                    Scope::repository(path.unwrap(), access)
                }
            }
        })
}

proptest! {
    #[test]
    fn signing_and_verifying_are_inverse(scope in scopes()) {
        let (_folder, signer) = signer();
        let password = signer.sign(&scope, soon()).unwrap();
        prop_assert_eq!(signer.verify(password.expose()), Ok(scope));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let (_folder, signer) = signer();
        prop_assert_eq!(signer.verify(&text), Err(TokenError::Invalid));
    }
}
