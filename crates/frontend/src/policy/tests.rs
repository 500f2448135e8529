//! Who is let in by which policy.

use proptest::prelude::*;

use super::*;

const OWNER: &str = "arn:aws:lambda:us-east-1:111111111111:function:f";

fn statement(effect: &str, change: &Value) -> Value {
    let mut statement = json!({
        "Sid": "s", "Effect": effect, "Action": "lambda:InvokeFunction", "Resource": OWNER,
        "Principal": {"AWS": "arn:aws:iam::222222222222:root"},
    });
    for (name, value) in change.as_object().unwrap() {
        statement[name] = value.clone();
    }
    statement
}

fn lets(statements: &Value) -> bool {
    let account = "222222222222".parse().unwrap();
    let access = Access {
        account: &account,
        caller: "arn:aws:iam::222222222222:root",
        url_auth: None,
        action: "lambda:InvokeFunction",
        resource: OWNER,
    };
    allows(&json!({"Statement": statements}).to_string(), &access)
}

#[test]
fn an_account_is_let_in_by_a_statement_that_means_it_and_nothing_denies() {
    for (change, expected) in [
        (json!({}), true),
        (json!({"Principal": "*"}), true),
        (json!({"Principal": {"AWS": ["333333333333", "222222222222"]}}), true),
        (json!({"Principal": {"AWS": "333333333333"}}), false),
        (json!({"Principal": {"Service": "s3.amazonaws.com"}}), false),
        (json!({"Action": ["lambda:Get*", "lambda:invoke*"]}), true),
        (json!({"Action": "lambda:GetFunction"}), false),
        (json!({"Resource": format!("{OWNER}:live")}), false),
        (json!({"Resource": format!("{OWNER}*")}), true),
        (json!({"Condition": {"StringEquals": {"aws:PrincipalAccount": "222222222222"}}}), true),
        (json!({"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}}}), false),
        (json!({"Condition": {"Nonsense": {"aws:PrincipalAccount": "222222222222"}}}), false),
        (json!({"NotAction": "lambda:GetFunction"}), false),
        (json!({"Effect": "Maybe"}), false),
    ] {
        assert_eq!(lets(&json!([statement("Allow", &change)])), expected, "{change}");
    }
    assert!(lets(&statement("Allow", &json!({}))), "one statement needs no list");
    let deny = |change: Value| lets(&json!([statement("Allow", &json!({})), statement("Deny", &change)]));
    assert!(!deny(json!({})));
    assert!(deny(json!({"Principal": {"AWS": "333333333333"}})));
    assert!(!deny(json!({"Condition": {"Nonsense": {"x": "y"}}})), "what is not understood denies");
}

#[test]
fn nonsense_lets_nobody_in() {
    let account = "222222222222".parse().unwrap();
    let access = Access {
        account: &account,
        caller: "arn:aws:iam::222222222222:root",
        url_auth: None,
        action: "lambda:InvokeFunction",
        resource: OWNER,
    };
    for policy in ["", "null", "[]", "{}", "{\"Statement\": 1}", "{\"Statement\": [null, 7, \"x\"]}"] {
        assert!(!allows(policy, &access), "{policy}");
    }
}

#[test]
fn a_policy_that_could_not_mean_what_it_says_is_refused() {
    let whole = json!({"Sid": "s", "Effect": "Allow", "Principal": {"AWS": "222222222222"}, "Action": "lambda:Invoke*", "Resource": OWNER});
    let with = |name: &str, value: Value| {
        let mut statement = whole.clone();
        statement[name] = value;
        check(&json!({"Version": "2012-10-17", "Statement": [statement]}).to_string(), OWNER)
    };
    assert!(with("Sid", "t".into()).is_ok());
    assert!(with("Principal", json!({"Service": ["s3.amazonaws.com"]})).is_ok());
    assert!(with("Resource", "*".into()).is_ok());
    for (name, value) in [
        ("Effect", json!("Maybe")),
        ("Principal", json!("222222222222")),
        ("Principal", json!({"AWS": "nonsense"})),
        ("Principal", json!({"Who": "*"})),
        ("Principal", json!(7)),
        ("Action", json!("s3:GetObject")),
        ("Action", json!([])),
        ("Action", json!([7])),
        ("Resource", json!("arn:aws:lambda:us-east-1:111111111111:function:other")),
        ("Condition", json!({"StringEquals": "x"})),
        ("NotAction", json!("lambda:*")),
    ] {
        assert!(with(name, value.clone()).is_err(), "{name} {value}");
    }
    let twice = json!({"Statement": [whole, whole]}).to_string();
    assert!(check(&twice, OWNER).is_err());
    assert!(check(&json!({"Version": "1999", "Statement": whole}).to_string(), OWNER).is_err());
    assert!(check(&json!({"Statement": whole, "More": 1}).to_string(), OWNER).is_err());
}

#[test]
fn principals_are_services_accounts_or_arns_of_identities() {
    assert_eq!(principal_of("s3.amazonaws.com"), Some(json!({"Service": "s3.amazonaws.com"})));
    assert_eq!(principal_of("123456789012"), Some(json!({"AWS": "arn:aws:iam::123456789012:root"})));
    let role = "arn:aws:iam::123456789012:role/r";
    assert_eq!(principal_of(role), Some(json!({"AWS": role})));
    for wrong in ["", "nobody", "arn:aws:s3:::bucket", "arn:aws:iam::1:root", "12345678901", ".", "a b.c"] {
        assert_eq!(principal_of(wrong), None, "{wrong}");
    }
}

proptest! {
    #[test]
    fn a_pattern_takes_what_the_same_regular_expression_takes(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
        let regex = format!("^{}$", pattern.replace('*', ".*").replace('?', "."));
        let expected = regex_lite::Regex::new(&regex).unwrap().is_match(&text);
        prop_assert_eq!(like(&pattern, &text), expected);
    }
}
