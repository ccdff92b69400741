//! Which containers a VM wants beside it: `label=K[=V]` or `name=N`, comma is "and", space is "or".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::names::Invalid;

/// A choice of containers. It is data, never part of a command or a query: we match it ourselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector {
    any: Vec<Vec<Term>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    Label { key: String, value: Option<String> },
    Name(String),
}

impl Selector {
    /// Whether a container is chosen. `name` is without Docker's leading slash.
    #[must_use]
    pub fn matches<'a>(&self, name: &str, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.any.iter().any(|all| {
            all.iter().all(|term| match term {
                Term::Name(wanted) => name == wanted,
                Term::Label { key, value: None } => label(key).is_some(),
                Term::Label { key, value: Some(value) } => label(key) == Some(value.as_str()),
            })
        })
    }
}

impl FromStr for Selector {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| Invalid::new("containers", text, why);
        if text.len() > 1024 || text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
            return Err(bad("is longer than 1024 characters or holds control characters"));
        }
        let term = |term: &str| match term.split_once('=') {
            Some(("label", rest)) => {
                let (key, value) = match rest.split_once('=') {
                    Some((key, value)) => (key, Some(value.to_owned())),
                    None => (rest, None),
                };
                if key.is_empty() {
                    return Err(bad("has a label without a key"));
                }
                Ok(Term::Label { key: key.to_owned(), value })
            }
            Some(("name", name)) if !name.is_empty() => Ok(Term::Name(name.to_owned())),
            _ => Err(bad("must be label=KEY, label=KEY=VALUE or name=NAME, with ',' for and, space for or")),
        };
        let any = text
            .split_whitespace()
            .map(|all| all.split(',').map(term).collect())
            .collect::<Result<Vec<Vec<Term>>, Invalid>>()?;
        if any.is_empty() {
            return Err(bad("is empty"));
        }
        Ok(Self { any })
    }
}

impl TryFrom<String> for Selector {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> String {
        selector.to_string()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, all) in self.any.iter().enumerate() {
            for (j, term) in all.iter().enumerate() {
                f.write_str(match (i, j) {
                    (0, 0) => "",
                    (_, 0) => " ",
                    _ => ",",
                })?;
                match term {
                    Term::Name(name) => write!(f, "name={name}")?,
                    Term::Label { key, value: None } => write!(f, "label={key}")?,
                    Term::Label { key, value: Some(value) } => write!(f, "label={key}={value}")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comma_is_and_and_space_is_or() -> Result<(), Invalid> {
        let s: Selector = "label=app=shop,label=tier name=web".parse()?;
        let label = |set: &'static [(&'static str, &'static str)]| {
            move |k: &str| set.iter().find(|(key, _)| *key == k).map(|(_, v)| *v)
        };
        assert!(s.matches("x", label(&[("app", "shop"), ("tier", "")])));
        assert!(!s.matches("x", label(&[("app", "shop")])));
        assert!(s.matches("web", label(&[])));
        assert!(!s.matches("webx", label(&[("app", "shopx"), ("tier", "1")])));
        assert_eq!(s.to_string().parse::<Selector>()?, s);
        Ok(())
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", " ", "app=shop", "label=", "label==x", "name=", "label=a,", "label=a\u{0}"] {
            assert!(text.parse::<Selector>().is_err(), "{text:?}");
        }
    }
}
