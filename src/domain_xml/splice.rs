//! Changes to a text at byte positions, and what new elements look like among their neighbours.
//!
//! Two rules make every change undoable to the byte. What is new is put directly behind something
//! that is no white space, with its own line break in front; and what is taken out goes together
//! with all white space in front of it.

use std::ops::Range;

use super::document::{Document, Element};
use super::grammar::is_space;
use crate::model::{Fault, Result};

/// Replacements of parts of a text, none of which overlap.
#[derive(Debug, Default)]
pub(super) struct Edits {
    list: Vec<(Range<usize>, String)>,
}

impl Edits {
    pub(super) fn insert(&mut self, at: usize, text: String) {
        self.list.push((at..at, text));
    }

    pub(super) fn replace(&mut self, range: Range<usize>, text: String) {
        self.list.push((range, text));
    }

    pub(super) fn delete(&mut self, range: Range<usize>) {
        self.list.push((range, String::new()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The text with every change made. Insertions at one place keep the order they were made in.
    pub(super) fn apply(mut self, text: &str) -> Result<String> {
        self.list.sort_by_key(|(range, _)| (range.start, range.end));
        let mut result = String::with_capacity(text.len() + 1024);
        let mut at = 0;
        for (range, new) in self.list {
            // Ranges come from positions of elements, so this fails only where we are wrong.
            let kept = text
                .get(at..range.start)
                .ok_or_else(|| Fault::failed("two changes of the domain XML overlap, so none was made"))?;
            result.push_str(kept);
            result.push_str(&new);
            at = range.end;
        }
        result.push_str(text.get(at..).unwrap_or_default());
        Ok(result)
    }
}

/// What an element was like before it got its first child from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Was {
    /// It was not there.
    None,
    /// `<a></a>`.
    Empty,
    /// `<a/>`.
    Closed,
    /// White space and nothing else.
    Blank,
}

impl Was {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Empty => "empty",
            Self::Closed => "closed",
            Self::Blank => "blank",
        }
    }

    pub(super) fn from_note(text: &str) -> Option<Self> {
        [Self::None, Self::Empty, Self::Closed, Self::Blank].into_iter().find(|was| was.as_str() == text)
    }
}

/// How a document is laid out: its line ends and the depth of its indentation.
#[derive(Debug)]
pub(super) struct Layout<'d, 'a> {
    document: &'d Document<'a>,
    /// The line end; `None` where the domain's children do not stand on lines of their own.
    newline: Option<&'a str>,
    unit: &'a str,
}

impl<'d, 'a> Layout<'d, 'a> {
    /// Looks at the domain's children.
    pub(super) fn of(document: &'d Document<'a>) -> Self {
        let Some(child) = document.children(&document.domain).find_map(|c| lead(document, c)) else {
            return Self { document, newline: None, unit: "" };
        };
        let newline = if child.starts_with('\r') { "\r\n" } else { "\n" };
        let own = lead(document, &document.domain).unwrap_or(newline);
        Self { document, newline: Some(newline), unit: child.strip_prefix(own).unwrap_or("  ") }
    }

    /// What stands before a new child of `parent`: a line end and indentation, or nothing.
    pub(super) fn child_lead(&self, parent: &Element) -> String {
        if let Some(same) = self.document.children(parent).filter_map(|c| lead(self.document, c)).last() {
            return same.to_owned();
        }
        let own = lead(self.document, parent);
        let top = || self.newline.filter(|_| parent.start == self.document.domain.start);
        match (self.newline, own.or_else(top)) {
            (Some(_), Some(own)) => self.deeper(own),
            _ => String::new(),
        }
    }

    /// One step further in.
    pub(super) fn deeper(&self, lead: &str) -> String {
        if lead.is_empty() { String::new() } else { format!("{lead}{}", self.unit) }
    }

    /// Puts a child at the end of `parent`. `make` writes it, given what stands before it. Tells
    /// what the parent was, if it held nothing.
    pub(super) fn append(
        &self,
        edits: &mut Edits,
        parent: &Element,
        make: impl FnOnce(&str) -> String,
    ) -> Option<Was> {
        let before = self.child_lead(parent);
        let child = make(&before);
        let after = if before.is_empty() { "" } else { lead(self.document, parent).unwrap_or_default() };
        if parent.end.is_none() {
            let name = self.document.slice(parent.name.clone());
            let text = format!(">{before}{child}{after}</{name}>");
            edits.replace(parent.start.end.saturating_sub(2)..parent.start.end, text);
            return Some(Was::Closed);
        }
        let content = parent.content();
        if content.is_empty() {
            edits.insert(content.start, format!("{before}{child}{after}"));
            return Some(Was::Empty);
        }
        let text = self.document.slice(content.clone());
        let filled = text.bytes().rposition(|b| !is_space(b)).map_or(0, |last| last + 1);
        edits.insert(content.start + filled, format!("{before}{child}"));
        (filled == 0).then_some(Was::Blank)
    }

    /// Puts a new element directly behind another.
    pub(super) fn follow(
        &self,
        edits: &mut Edits,
        sibling: &Element,
        parent: &Element,
        make: impl FnOnce(&str) -> String,
    ) {
        let before = lead(self.document, sibling).map_or_else(|| self.child_lead(parent), str::to_owned);
        let text = make(&before);
        edits.insert(sibling.span().end, format!("{before}{text}"));
    }
}

/// The line end and indentation in front of an element that begins its line.
pub(super) fn lead<'a>(document: &Document<'a>, element: &Element) -> Option<&'a str> {
    let space = document.slice(space_before(document.text, element.start.start)..element.start.start);
    let newline = space.rfind('\n')?;
    let from = if space.get(..newline).is_some_and(|s| s.ends_with('\r')) { newline - 1 } else { newline };
    space.get(from..)
}

/// Where the white space begins that ends at `at`.
pub(super) fn space_before(text: &str, at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    before.bytes().rposition(|b| !is_space(b)).map_or(0, |last| last + 1)
}

/// An element's or attribute's range together with the white space in front of it.
pub(super) fn with_space(text: &str, range: Range<usize>) -> Range<usize> {
    space_before(text, range.start)..range.end
}

/// Whether nothing but white space is left in an element when `gone` is taken out.
pub(super) fn is_blank_without(document: &Document<'_>, element: &Element, gone: &[Range<usize>]) -> bool {
    let content = element.content();
    let text = document.slice(content.clone());
    let mut gone: Vec<_> = gone.iter().filter(|r| content.start <= r.start && r.end <= content.end).collect();
    gone.sort_by_key(|r| r.start);
    let mut at = content.start;
    let mut blank = true;
    for range in gone {
        let kept = text.get(at - content.start..range.start.saturating_sub(content.start));
        blank &= kept.unwrap_or_default().bytes().all(is_space);
        at = range.end;
    }
    blank && text.get(at - content.start..).unwrap_or_default().bytes().all(is_space)
}

/// Makes an element what it was, when nothing but white space is left in it without `gone`.
pub(super) fn restore(
    edits: &mut Edits,
    document: &Document<'_>,
    element: &Element,
    was: Was,
    gone: &[Range<usize>],
) {
    match was {
        Was::None => edits.delete(with_space(document.text, element.span())),
        Was::Empty => edits.delete(element.content()),
        Was::Closed if element.end.is_some() => {
            edits.replace(element.start.end.saturating_sub(1)..element.span().end, "/>".to_owned());
        }
        Was::Closed => {}
        Was::Blank => gone.iter().for_each(|range| edits.delete(range.clone())),
    }
}

/// Gives an attribute a value, adds it, or with `None` takes it out.
pub(super) fn set_attribute(
    edits: &mut Edits,
    document: &Document<'_>,
    element: &Element,
    name: &str,
    value: Option<&str>,
) {
    let attributes = document.attributes(element);
    let there = attributes.iter().find(|a| a.name == name);
    match (there, value) {
        (Some(there), Some(value)) if there.value == value => {}
        (Some(there), Some(value)) => edits.replace(there.raw.clone(), escape(value)),
        (Some(there), None) => edits.delete(with_space(document.text, there.span.clone())),
        (None, Some(value)) => {
            let at = attributes.last().map_or(element.name.end, |last| last.span.end);
            edits.insert(at, format!(" {name}=\"{}\"", escape(value)));
        }
        (None, None) => {}
    }
}

/// A value for either kind of quotes. Line ends and tabs would be read back as spaces
/// (XML 1.0, section 3.3.3), so they become references.
pub(super) fn escape(value: &str) -> String {
    quick_xml::escape::escape(value).replace('\n', "&#10;").replace('\r', "&#13;").replace('\t', "&#9;")
}
