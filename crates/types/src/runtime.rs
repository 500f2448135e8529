//! The runtime identifiers of Lambda, as far as they decide how an instance starts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What kind of program answers invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuntimeFamily {
    /// An executable `bootstrap` in the code: `provided.al2`, `provided.al2023`.
    Provided,
    /// `pythonX.Y`: CPython with AWS's runtime interface client.
    Python,
    /// `nodejsNN.x`: Node.js with a runtime interface client.
    Node,
    /// None: an image brings all that it needs.
    Image,
}

/// A runtime identifier such as `python3.12`, checked for its form; whether this machine has it is the
/// runtime catalog's to say.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Runtime {
    family: RuntimeFamily,
    name: String,
}

/// An identifier of no runtime that Hearth runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("runtime {0:?} is not one of provided.al2, provided.al2023, python3.N, nodejsN.x")]
pub struct ParseRuntimeError(String);

/// What a function that is an image has instead of a runtime, as `AWS_EXECUTION_ENV` says it.
const IMAGE: &str = "Image";

impl Runtime {
    /// That of a function that is an image, which no identifier stands for.
    #[must_use]
    pub fn image() -> Self {
        Self { family: RuntimeFamily::Image, name: IMAGE.to_owned() }
    }

    /// What kind of program it is.
    #[must_use]
    pub const fn family(&self) -> RuntimeFamily {
        self.family
    }

    /// The identifier, as in Lambda's API.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The interpreter's version as the identifier gives it: `3.12` of `python3.12`, `20` of `nodejs20.x`,
    /// nothing for `provided.*`.
    #[must_use]
    pub fn language_version(&self) -> Option<&str> {
        match self.family {
            RuntimeFamily::Provided | RuntimeFamily::Image => None,
            RuntimeFamily::Python => self.name.strip_prefix("python"),
            RuntimeFamily::Node => self.name.strip_prefix("nodejs").and_then(|v| v.strip_suffix(".x")),
        }
    }
}

impl FromStr for Runtime {
    type Err = ParseRuntimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |digits: &str| {
            (1..=3).contains(&digits.len())
                && digits.bytes().all(|b| b.is_ascii_digit())
                && !digits.starts_with('0')
        };
        let family = if matches!(text, "provided.al2" | "provided.al2023") {
            Some(RuntimeFamily::Provided)
        } else if text.strip_prefix("python3.").is_some_and(number) {
            Some(RuntimeFamily::Python)
        } else if text.strip_prefix("nodejs").and_then(|rest| rest.strip_suffix(".x")).is_some_and(number) {
            Some(RuntimeFamily::Node)
        } else {
            None
        };
        match family {
            Some(family) => Ok(Self { family, name: text.to_owned() }),
            None => Err(ParseRuntimeError(text.chars().take(64).collect())),
        }
    }
}

impl TryFrom<String> for Runtime {
    type Error = ParseRuntimeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Runtime> for String {
    fn from(runtime: Runtime) -> Self {
        runtime.name
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_forms_parse_and_others_do_not() {
        for (text, family, version) in [
            ("provided.al2", RuntimeFamily::Provided, None),
            ("provided.al2023", RuntimeFamily::Provided, None),
            ("python3.9", RuntimeFamily::Python, Some("3.9")),
            ("python3.13", RuntimeFamily::Python, Some("3.13")),
            ("nodejs20.x", RuntimeFamily::Node, Some("20")),
        ] {
            let runtime: Runtime = text.parse().unwrap();
            assert_eq!((runtime.family(), runtime.language_version()), (family, version));
            assert_eq!(runtime.to_string(), text);
        }
        for wrong in
            ["", "python3", "python3.", "python2.7", "nodejs", "nodejs.x", "nodejs20", "java21", "python3.1a"]
        {
            assert!(wrong.parse::<Runtime>().is_err(), "{wrong}");
        }
    }
}
