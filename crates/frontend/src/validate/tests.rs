//! Each kind of constraint, in Lambda's words.

use serde_json::json;

use super::*;
use crate::shapes;

fn check(shape: &Shape, body: &Value) -> Result<(), ApiError> {
    let mut violations = Violations::default();
    violations.body(body.as_object().unwrap(), shape)?;
    violations.finish()
}

fn message(shape: &Shape, body: &Value) -> String {
    check(shape, body).unwrap_err().message
}

fn create(extra: &Value) -> Value {
    let mut body = json!({"Role": "arn:aws:iam::123456789012:role/r", "Code": {}});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

#[test]
fn all_violations_are_told_at_once() {
    let body = json!({"Role": "nobody", "Code": {}, "MemorySize": 64, "Timeout": 901, "Runtime": "cobol"});
    let text = message(&shapes::CREATE_FUNCTION_REQUEST, &body);
    assert!(text.starts_with("4 validation errors detected: "), "{text}");
    for part in [
        "Value 'cobol' at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [nodejs, ",
        "Value 'nobody' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:",
        "Value '64' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128",
        "Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900",
    ] {
        assert!(text.contains(part), "{part} not in {text}");
    }
}

#[test]
fn a_missing_member_is_null() {
    assert_eq!(
        message(&shapes::CREATE_FUNCTION_REQUEST, &json!({"Code": {}})),
        "1 validation error detected: Value null at 'role' failed to satisfy constraint: Member must not be null"
    );
    assert!(
        message(&shapes::CREATE_FUNCTION_REQUEST, &create(&json!({"EphemeralStorage": {}})))
            .contains("'ephemeralStorage.size'")
    );
}

#[test]
fn bounds_include_their_ends() {
    for good in [
        json!({"MemorySize": 128}),
        json!({"MemorySize": 10240}),
        json!({"Timeout": 900}),
        json!({"EphemeralStorage": {"Size": 512}}),
        json!({"Description": "é".repeat(256)}),
        json!({"Architectures": ["arm64"]}),
        json!({"KMSKeyArn": ""}),
        json!({"Environment": {"Variables": {"AB": "x", "a_1": ""}}}),
        json!({"Tags": {"größe": "a b+c", "hearth:concurrency": "soft=1,hard=2"}}),
        json!({"MemorySize": null}),
        json!({"Unknown": {"x": 1}}),
    ] {
        assert_eq!(check(&shapes::CREATE_FUNCTION_REQUEST, &create(&good)), Ok(()), "{good}");
    }
    for bad in [
        json!({"MemorySize": 10241}),
        json!({"Timeout": 0}),
        json!({"EphemeralStorage": {"Size": 511}}),
        json!({"Description": "x".repeat(257)}),
        json!({"Handler": "has space"}),
        json!({"Architectures": []}),
        json!({"Architectures": ["x86_64", "arm64"]}),
        json!({"Architectures": ["mips"]}),
        json!({"Environment": {"Variables": {"1A": "x"}}}),
        json!({"Tags": {"a": "b,c"}}),
        json!({"Tags": {"": "b"}}),
        json!({"VpcConfig": {"SubnetIds": ["nonsense"]}}),
    ] {
        let error = check(&shapes::CREATE_FUNCTION_REQUEST, &create(&bad)).unwrap_err();
        assert_eq!(error.code, "ValidationException", "{bad}");
        assert!(error.message.starts_with("1 validation error"), "{}", error.message);
    }
}

#[test]
fn lists_and_maps_have_their_own_words() {
    assert_eq!(
        message(&shapes::CREATE_FUNCTION_REQUEST, &create(&json!({"Architectures": ["mips"]}))),
        "1 validation error detected: Value '[mips]' at 'architectures' failed to satisfy constraint: Member must \
         satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64]]"
    );
    let text = message(
        &shapes::CREATE_FUNCTION_REQUEST,
        &create(&json!({"Environment": {"Variables": {"1A": "secret"}}})),
    );
    assert!(
        text.contains("Value at 'environment.variables' failed to satisfy constraint: Map keys"),
        "{text}"
    );
    assert!(!text.contains("secret"));
}

#[test]
fn a_value_of_the_wrong_type_cannot_be_read() {
    for (body, expected) in [
        (json!({"MemorySize": "1"}), "STRING_VALUE can not be converted to an Integer"),
        (json!({"MemorySize": 1.5}), "DECIMAL_VALUE can not be converted to an Integer"),
        (json!({"Description": 1}), "NUMBER_VALUE can not be converted to a String"),
        (json!({"Environment": []}), "START_ARRAY can not be converted to a Map"),
        (json!({"Publish": "yes"}), "STRING_VALUE can not be converted to a Boolean"),
    ] {
        let error = check(&shapes::CREATE_FUNCTION_REQUEST, &create(&body)).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), ("SerializationException", expected));
    }
}

#[test]
fn every_pattern_of_the_model_compiles() {
    fn walk(shape: &Shape) {
        match shape {
            Shape::Text { pattern, .. } => {
                assert!(Regex::new(&format!("^(?:{pattern})$")).is_ok(), "{pattern}");
            }
            Shape::List { member, .. } => walk(member),
            Shape::Map { key, value, .. } => [key, value].into_iter().for_each(|shape| walk(shape)),
            Shape::Structure(fields) => fields.iter().for_each(|field| walk(field.shape)),
            _ => {}
        }
    }
    for shape in [
        &shapes::CREATE_FUNCTION_REQUEST,
        &shapes::UPDATE_FUNCTION_CODE_REQUEST,
        &shapes::UPDATE_FUNCTION_CONFIGURATION_REQUEST,
        &shapes::PUT_FUNCTION_CONCURRENCY_REQUEST,
        &shapes::TAG_RESOURCE_REQUEST,
        &shapes::NAMESPACED_FUNCTION_NAME,
        &shapes::NUMERIC_LATEST_PUBLISHED_OR_ALIAS_QUALIFIER,
        &shapes::TAGGABLE_RESOURCE,
    ] {
        walk(shape);
    }
}
