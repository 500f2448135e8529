//! What holds for any input at all.

use proptest::prelude::*;

use crate::names::{Named, Scope, percent_decode, query_values};
use crate::request::Members;
use crate::service::{mark, unmark};
use crate::shapes;
use crate::validate::Violations;

const ACCOUNT: &str = "123456789012";

fn scope() -> Scope {
    Scope { region: "us-east-1".into(), account: ACCOUNT.parse().unwrap() }
}

fn read(text: &str) -> Result<Named, String> {
    let mut violations = Violations::default();
    let named = scope().function(text, &shapes::NAMESPACED_FUNCTION_NAME, &mut violations);
    let named = named.map_err(|error| error.code.to_owned())?;
    violations.finish().map_err(|error| error.message).map(|()| named)
}

/// Names in all their forms, right and nearly right.
fn names() -> impl Strategy<Value = String> {
    let prefix = prop_oneof![
        Just(String::new()),
        Just("function:".to_owned()),
        Just(format!("{ACCOUNT}:function:")),
        Just(format!("us-east-1:{ACCOUNT}:function:")),
        Just(format!("arn:aws:lambda:us-east-1:{ACCOUNT}:function:")),
        Just(format!("arn:aws:lambda:eu-west-1:{ACCOUNT}:function:")),
        Just("arn:aws:lambda:us-east-1:210987654321:function:".to_owned()),
        "[a-z0-9:-]{0,40}",
    ];
    let suffix = prop_oneof![Just(String::new()), Just(":$LATEST".to_owned()), ":[a-zA-Z0-9$:]{0,8}"];
    (prefix, prop_oneof!["[a-zA-Z0-9_-]{0,70}", "[a-z.:/%$ \u{e9}]{0,12}"], suffix)
        .prop_map(|(prefix, name, suffix)| prefix + &name + &suffix)
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

proptest! {
    #[test]
    fn a_name_that_is_taken_is_one_that_a_function_can_have_and_of_the_callers_account(text in names()) {
        if let Ok(named) = read(&text) {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            prop_assert!((1..=64).contains(&named.id.name.len()) && named.id.name.chars().all(allowed), "{text}");
            prop_assert_eq!(named.id.account.as_str(), ACCOUNT);
            prop_assert!(text.contains(&*named.id.name));
        }
    }

    #[test]
    fn the_short_way_to_a_name_comes_to_the_same_as_the_long_one(text in names()) {
        let mut violations = Violations::default();
        let shape = &shapes::NAMESPACED_FUNCTION_NAME;
        let long = scope().function_in_any_form(&text, shape, &mut violations).map_err(|error| error.code.to_owned());
        let long = long.and_then(|named| violations.finish().map_err(|error| error.message).map(|()| named));
        prop_assert_eq!(read(&text), long);
    }

    #[test]
    fn every_form_of_a_name_means_the_same_function(name in "[a-zA-Z_-][a-zA-Z0-9_-]{0,63}") {
        let arn = scope().arn(&read(&name).unwrap().id);
        for form in [format!("{ACCOUNT}:function:{name}"), format!("us-east-1:{ACCOUNT}:function:{name}"), arn] {
            prop_assert_eq!(&read(&form), &read(&name), "{}", form);
            let latest = read(&format!("{form}:$LATEST")).unwrap();
            prop_assert_eq!((&*latest.id.name, latest.qualifier.as_deref()), (&*name, Some("$LATEST")));
        }
    }

    #[test]
    fn no_text_is_too_strange_to_be_refused(text in ".{0,300}") {
        let _ = read(&text);
        let _ = percent_decode(&text);
        let _ = query_values(&text, "Marker");
        let _ = unmark(&text);
    }

    #[test]
    fn what_was_encoded_is_decoded(text in ".{0,60}", other in "[a-z&=+%]{0,9}") {
        prop_assert_eq!(percent_decode(&encoded(&text)), Some(text.clone()));
        let query = format!("{other}&k={}", encoded(&text));
        prop_assert_eq!(query_values(&query, "k").pop(), Some(text.clone()));
        prop_assert_eq!(unmark(&mark(&text)), Some(text));
    }

    #[test]
    fn any_bytes_as_a_body_are_members_or_an_error_of_the_callers(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            r#"\{("(Code|ZipFile|Tags)": ?("[A-Za-z0-9+/=\\]{0,9}"|\{.{0,20}\}|null|[0-9e.-]{1,5}),?){0,3}\}"#
                .prop_map(String::into_bytes),
        ],
    ) {
        if let Err(error) = Members::parse(&bytes) {
            prop_assert_eq!((error.status.as_u16(), error.code), (400, "SerializationException"));
        }
    }
}
