//! Names and qualifiers in all their forms.

use super::*;

fn scope() -> Scope {
    Scope { region: "us-east-1".into(), account: "123456789012".parse().unwrap() }
}

fn read(text: &str) -> Result<(String, Option<String>), ApiError> {
    let mut violations = Violations::default();
    let named = scope().function(text, &shapes::NAMESPACED_FUNCTION_NAME, &mut violations)?;
    violations.finish()?;
    Ok((named.id.name.to_string(), named.qualifier))
}

#[test]
fn a_function_has_many_names() {
    let plain = Ok(("f-1_x".to_owned(), None));
    let latest = Ok(("f-1_x".to_owned(), Some("$LATEST".to_owned())));
    for (text, expected) in [
        ("f-1_x", &plain),
        ("f-1_x:$LATEST", &latest),
        ("function:f-1_x", &plain),
        ("123456789012:f-1_x", &Ok(("123456789012".to_owned(), Some("f-1_x".to_owned())))),
        ("123456789012:function:f-1_x", &plain),
        ("123456789012:function:f-1_x:$LATEST", &latest),
        ("us-east-1:123456789012:function:f-1_x", &plain),
        ("arn:aws:lambda:us-east-1:123456789012:function:f-1_x", &plain),
        ("arn:aws:lambda:us-east-1:123456789012:function:f-1_x:$LATEST", &latest),
        ("123456789012", &Ok(("123456789012".to_owned(), None))),
    ] {
        assert_eq!(&read(text), expected, "{text}");
    }
}

#[test]
fn names_of_others_and_nonsense_are_refused() {
    for (text, code) in [
        ("", "ValidationException"),
        ("a b", "ValidationException"),
        ("a/../b", "ValidationException"),
        (&"x".repeat(65), "ValidationException"),
        ("arn:aws:lambda:eu-west-1:123456789012:function:f", "ResourceNotFoundException"),
        ("arn:aws:lambda:us-east-1:210987654321:function:f", "AccessDeniedException"),
        ("210987654321:function:f", "AccessDeniedException"),
    ] {
        assert_eq!(read(text).unwrap_err().code, code, "{text}");
    }
}

#[test]
fn a_qualifier_is_a_version_or_an_alias_and_must_not_be_contradicted() {
    let named = |qualifier: Option<&str>| Named {
        id: FunctionId { account: scope().account, name: "f".into() },
        qualifier: qualifier.map(str::to_owned),
    };
    for (own, query, expected) in [
        (None, None, Qualifier::None),
        (None, Some("$LATEST"), Qualifier::Latest),
        (Some("$LATEST"), Some("$LATEST"), Qualifier::Latest),
        (Some("7"), None, Qualifier::Published(7)),
        (None, Some("live"), Qualifier::Alias("live".to_owned())),
        (None, Some("07"), Qualifier::Alias("07".to_owned())),
    ] {
        assert_eq!(Scope::qualifier(&named(own), query), Ok(expected));
    }
    let contradiction = Scope::qualifier(&named(Some("$LATEST")), Some("1")).unwrap_err();
    assert_eq!(contradiction.code, "InvalidParameterValueException");
    let arn = "arn:aws:lambda:us-east-1:123456789012:function:f";
    let missing = |qualifier| scope().missing(&named(None).id, qualifier).message;
    assert_eq!(missing("7"), format!("Function not found: {arn}:7"));
    assert_eq!(missing("live"), format!("Cannot find alias arn: {arn}:live"));
}

#[test]
fn a_name_means_a_function_of_its_own_account_or_of_the_callers() {
    let mine = scope().account;
    for (text, owner, name, qualifier) in [
        ("f", mine.as_str(), "f", None),
        ("f:live", mine.as_str(), "f", Some("live")),
        ("222222222222:function:f", "222222222222", "f", None),
        ("arn:aws:lambda:us-east-1:222222222222:function:f:7", "222222222222", "f", Some("7")),
        ("arn:aws:lambda:eu-west-1:222222222222:function:f", "222222222222", "f", None),
    ] {
        let named = meant(text, &mine);
        assert_eq!((named.id.account.as_str(), &*named.id.name), (owner, name), "{text}");
        assert_eq!(named.qualifier.as_deref(), qualifier, "{text}");
    }
}

#[test]
fn percent_encoding_is_undone_once() {
    assert_eq!(percent_decode("a%3Ab%2525").as_deref(), Some("a:b%25"));
    for wrong in ["%", "%4", "%zz", "%ff", "%+1"] {
        assert_eq!(percent_decode(wrong), None, "{wrong}");
    }
    assert_eq!(query_values("tagKeys=a+b&x=1&tagKeys=c%26", "tagKeys"), ["a b", "c&"]);
}
