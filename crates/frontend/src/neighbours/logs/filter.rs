//! Which lines a filter pattern takes: words, phrases in quotes, `?word` for any of several, `-word` for none.
//!
//! Source: docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html, without patterns for JSON and for
//! fields between spaces.

/// A filter pattern.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    all: Vec<String>,
    any: Vec<String>,
    none: Vec<String>,
}

impl Filter {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is of a kind that is not known here.
    pub(super) fn read(pattern: &str) -> Result<Self, String> {
        let mut rest = pattern.trim();
        if rest.starts_with(['{', '[', '%']) {
            return Err(format!("Hearth knows filter patterns of words and phrases only, not {pattern:?}"));
        }
        let mut filter = Self::default();
        while !rest.is_empty() {
            let (terms, term) = match rest.as_bytes()[0] {
                b'?' => (&mut filter.any, &rest[1..]),
                b'-' => (&mut filter.none, &rest[1..]),
                _ => (&mut filter.all, rest),
            };
            let (word, after) = match term.strip_prefix('"') {
                Some(phrase) => phrase.split_once('"').ok_or("The filter pattern has an open quote")?,
                None => term.split_once(char::is_whitespace).unwrap_or((term, "")),
            };
            if !word.is_empty() {
                terms.push(word.to_owned());
            }
            rest = after.trim_start();
        }
        Ok(filter)
    }

    /// Whether a line is taken.
    pub(super) fn takes(&self, line: &str) -> bool {
        let has = |word: &String| line.contains(word.as_str());
        self.all.iter().all(has)
            && (self.any.is_empty() || self.any.iter().any(has))
            && !self.none.iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_words_phrases_alternatives_and_leave_what_is_excluded() {
        for (pattern, line, taken) in [
            ("", "anything", true),
            ("ERROR Main", "Main: ERROR 5", true),
            ("ERROR Main", "ERROR 5", false),
            ("?ERROR ?WARN", "a WARN", true),
            ("?ERROR ?WARN", "an INFO", false),
            ("\"task failed\" -again", "the task failed", true),
            ("\"task failed\" -again", "the task failed again", false),
            ("\"task failed\"", "failed task", false),
        ] {
            assert_eq!(Filter::read(pattern).unwrap().takes(line), taken, "{pattern} {line}");
        }
        for wrong in ["{ $.level = 1 }", "[a, b]", "%x%", "\"open"] {
            assert!(Filter::read(wrong).is_err(), "{wrong}");
        }
    }
}
