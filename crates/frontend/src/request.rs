//! Takes a JSON body apart without copying the archive in it, which may be most of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// A request's members; the archive, if any, apart from the rest.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// All but the archive.
    pub(crate) fields: Map<String, Value>,
    /// `ZipFile`, `Code.ZipFile` or `Content.ZipFile`, decoded.
    pub(crate) zip: Option<Vec<u8>>,
}

impl Members {
    /// Reads a body; an empty one has no members.
    ///
    /// # Errors
    /// It is not a JSON object, or the archive in it is not base64.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut members = Self::default();
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(members);
        }
        for (name, raw) in split(body)? {
            match name.as_ref() {
                "ZipFile" => members.take_zip(raw)?,
                "Code" | "Content" => {
                    let mut code = Map::new();
                    for (inner, raw) in split(raw.get().as_bytes())? {
                        if inner == "ZipFile" {
                            members.take_zip(raw)?;
                        } else {
                            code.insert(inner.into_owned(), value(raw)?);
                        }
                    }
                    members.fields.insert(name.into_owned(), Value::Object(code));
                }
                _ => {
                    members.fields.insert(name.into_owned(), value(raw)?);
                }
            }
        }
        Ok(members)
    }

    fn take_zip(&mut self, raw: &RawValue) -> Result<(), ApiError> {
        let text = raw.get();
        if text == "null" {
            return Ok(());
        }
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let inner = inner
            .ok_or_else(|| ApiError::serialization("the value of ZipFile can not be converted to a Blob"))?;
        // Base64 needs no escapes, but some writers escape the slash.
        let plain = if inner.contains('\\') {
            Cow::Owned(serde_json::from_str::<String>(text).map_err(|error| malformed(&error))?)
        } else {
            Cow::Borrowed(inner)
        };
        let decoded = STANDARD.decode(plain.as_bytes());
        self.zip = Some(
            decoded.map_err(|error| ApiError::serialization(format!("ZipFile is not base64: {error}")))?,
        );
        Ok(())
    }

    /// A text member.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }

    /// A number member.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        self.fields.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok())
    }

    /// A truth member; absent is false.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.fields.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A member that is given and not null.
    pub(crate) fn given(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// A member that maps texts to texts.
    pub(crate) fn texts(&self, name: &str) -> Option<BTreeMap<String, String>> {
        self.given(name).and_then(Value::as_object).map(text_map)
    }
}

/// The entries of a map whose values are texts.
pub(crate) fn text_map(object: &Map<String, Value>) -> BTreeMap<String, String> {
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    object.iter().filter_map(text).collect()
}

type Raw<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

fn split(body: &[u8]) -> Result<Raw<'_>, ApiError> {
    serde_json::from_slice(body).map_err(|error| malformed(&error))
}

fn value(raw: &RawValue) -> Result<Value, ApiError> {
    serde_json::from_str(raw.get()).map_err(|error| malformed(&error))
}

fn malformed(error: &serde_json::Error) -> ApiError {
    ApiError::serialization(format!("Could not parse request body into json: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_taken_out_and_decoded() {
        let members =
            Members::parse(br#"{"Code": {"ZipFile": "aGk\/", "S3Bucket": "b"}, "Timeout": 3}"#).unwrap();
        assert_eq!(members.zip.as_deref(), Some(&b"hi?"[..]));
        assert_eq!(
            Value::Object(members.fields),
            serde_json::json!({"Code": {"S3Bucket": "b"}, "Timeout": 3})
        );
        assert_eq!(Members::parse(br#"{"ZipFile": "aGk="}"#).unwrap().zip.as_deref(), Some(&b"hi"[..]));
        assert!(Members::parse(br#"{"ZipFile": null}"#).unwrap().zip.is_none());
    }

    #[test]
    fn what_is_not_an_object_is_not_understood() {
        assert!(Members::parse(b" ").unwrap().fields.is_empty());
        let deep = "[".repeat(100_000);
        for wrong in [
            "{",
            "[]",
            "1",
            "null",
            r#"{"a":1}x"#,
            r#"{"ZipFile": 3}"#,
            r#"{"ZipFile": "*"}"#,
            r#"{"Code": "x"}"#,
            &deep,
        ] {
            assert_eq!(Members::parse(wrong.as_bytes()).unwrap_err().code, "SerializationException");
        }
        assert!(Members::parse(b"{\"a\": \"\xff\"}").is_err());
    }
}
