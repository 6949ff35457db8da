//! The parser: a string to its syntax tree.

use super::{
    syntax::{Element, Interpolation, Part, Reference, SyntaxError},
    words::typed_word,
};
use crate::config::Value;

/// Depth of interpolations, lists and mappings within one string.
const MAX_NESTING: usize = 50;
/// Parts of one path. No tree is as deep; each part of a longer one would be looked for in vain.
const MAX_PATH_PARTS: usize = 100;

type Result<T> = std::result::Result<T, SyntaxError>;

/// Parses a whole scalar: literal text, `${…}`, and `\${` for a literal `${`.
pub(in crate::config) fn parse_text(text: &str) -> Result<Vec<Part>> {
    Parser { text, at: 0, depth: 0 }.mixed_until(None)
}

/// Parses the argument of `oc.decode`: one element.
pub(in crate::config) fn parse_element(text: &str) -> Result<Element> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    let element = parser.element(Ending::End)?;
    parser.skip_blanks();
    match parser.peek() {
        None => Ok(element),
        Some(c) => Err(parser.error(format!("`{}` is not expected here", c.escape_debug()), None)),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Ending {
    /// Inside `${name:…}`.
    Resolver,
    /// Inside `[…]`.
    List,
    /// Inside `{…}`.
    Dict,
    /// The whole string.
    End,
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn error(&self, message: impl Into<String>, help: Option<&'static str>) -> SyntaxError {
        SyntaxError { at: self.at, message: message.into(), help }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == MAX_NESTING {
            return Err(self.error(format!("interpolations are nested more than {MAX_NESTING} deep"), None));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// Literal text and interpolations up to an unescaped `quote`, or to the end. The quote is consumed.
    fn mixed_until(&mut self, quote: Option<char>) -> Result<Vec<Part>> {
        let opened = self.at;
        let mut parts = Vec::new();
        let mut literal = String::new();
        loop {
            let rest = self.rest();
            let special = rest.find(|c| c == '\\' || c == '$' || Some(c) == quote).unwrap_or(rest.len());
            literal.push_str(&rest[..special]);
            self.at += special;
            let backslashes = self.rest().bytes().take_while(|b| *b == b'\\').count();
            let after = &self.rest()[backslashes..];
            let quoted_end = quote.is_some_and(|quote| after.starts_with(quote));
            if !(after.starts_with("${") || quoted_end) {
                // Backslashes and dollars mean themselves anywhere else.
                let plain =
                    backslashes.max(after.chars().next().filter(|_| backslashes == 0).map_or(0, char::len_utf8));
                literal.push_str(&self.rest()[..plain]);
                self.at += plain;
                if self.rest().is_empty() && plain == 0 {
                    break;
                }
                continue;
            }
            literal.extend(std::iter::repeat_n('\\', backslashes / 2));
            self.at += backslashes;
            if backslashes % 2 == 1 {
                let escaped = if quoted_end { 1 } else { 2 };
                literal.push_str(&self.rest()[..escaped]);
                self.at += escaped;
            } else if quoted_end {
                self.at += 1;
                push_text(&mut parts, literal);
                return Ok(parts);
            } else {
                push_text(&mut parts, std::mem::take(&mut literal));
                parts.push(Part::Interpolation(self.interpolation()?));
            }
        }
        if quote.is_some() {
            self.at = opened.saturating_sub(1);
            return Err(self.error("unterminated quote", None));
        }
        push_text(&mut parts, literal);
        Ok(parts)
    }

    /// At `${`.
    fn interpolation(&mut self) -> Result<Interpolation> {
        let start = self.at;
        self.at += 2;
        let kind = self.deeper(|parser| {
            parser.skip_blanks();
            parser.reference(start)
        })?;
        Ok(Interpolation { start, end: self.at, kind })
    }

    /// From after `${` to after its `}`.
    fn reference(&mut self, start: usize) -> Result<Reference> {
        let mut path: Vec<Part> = Vec::new();
        let mut text = String::new();
        while self.eat(".") {
            text.push('.');
        }
        let relative = !text.is_empty();
        // Whether a key must come next: after a dot, and at the beginning.
        let mut wants_key = true;
        let mut dots = text.len();
        loop {
            if dots > MAX_PATH_PARTS {
                self.at = start;
                return Err(self.error(format!("a reference has at most {MAX_PATH_PARTS} parts"), None));
            }
            let rest = self.rest();
            if rest.starts_with("${") && wants_key {
                push_text(&mut path, std::mem::take(&mut text));
                path.push(Part::Interpolation(self.interpolation()?));
                wants_key = false;
            } else if rest.starts_with('[') && (!wants_key || path.is_empty() && text.trim_matches('.').is_empty()) {
                self.at += 1;
                if !wants_key {
                    text.push('.');
                }
                dots += 1;
                self.bracket(&mut path, &mut text)?;
                wants_key = false;
            } else if rest.starts_with('.') && !wants_key {
                self.at += 1;
                text.push('.');
                dots += 1;
                wants_key = true;
            } else if wants_key {
                text.push_str(self.key(start)?);
                wants_key = false;
            } else {
                break;
            }
        }
        self.skip_blanks();
        push_text(&mut path, text);
        if self.eat("}") {
            return Ok(Reference::Path(path));
        }
        if self.peek() == Some(':') {
            return self.resolver(path, relative, start);
        }
        Err(self.unexpected(start, "`}`"))
    }

    /// From after `[` to after `]`.
    fn bracket(&mut self, path: &mut Vec<Part>, text: &mut String) -> Result<()> {
        if self.rest().starts_with("${") {
            push_text(path, std::mem::take(text));
            path.push(Part::Interpolation(self.interpolation()?));
        } else {
            let at = self.at;
            text.push_str(self.key(at)?);
        }
        if self.eat("]") { Ok(()) } else { Err(self.unexpected(self.at, "`]`")) }
    }

    /// A key of a path: anything without the characters that mean something.
    fn key(&mut self, start: usize) -> Result<&str> {
        let rest = self.rest();
        let end = rest.find(|c: char| "\\{}()[]:.'\"".contains(c) || c.is_whitespace()).unwrap_or(rest.len());
        if end == 0 {
            return Err(self.unexpected(start, "a name"));
        }
        let from = self.at;
        self.at += end;
        Ok(&self.text[from..self.at])
    }

    fn unexpected(&self, start: usize, wanted: &str) -> SyntaxError {
        match self.peek() {
            None => SyntaxError {
                at: start,
                message: "`${` has no closing `}`".into(),
                help: Some("write `\\${` for a literal `${`; a value with ` #` or `: ` in it needs quotes"),
            },
            Some('\'' | '"') => self.error("a name inside `${…}` takes no quotes", None),
            Some(c) => self.error(
                format!("expected {wanted} inside `${{…}}`, found `{}`", c.escape_debug()),
                (self.text[start..self.at].trim_end() == "${").then_some("write a name, as in `${a.b}`"),
            ),
        }
    }

    /// At the `:` of `${name:…}`.
    fn resolver(&mut self, mut path: Vec<Part>, relative: bool, start: usize) -> Result<Reference> {
        let word = |word: &str| {
            let mut characters = word.chars();
            characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
                && characters.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        };
        let sound = match path.as_slice() {
            [Part::Text(name)] => !relative && name.split('.').all(word) && !self.text[start..self.at].contains('['),
            [Part::Interpolation(_)] => !relative,
            _ => false,
        };
        if !sound {
            return Err(self.error("this is not the name of a resolver", Some("write `${name:arguments}`")));
        }
        self.at += 1;
        let arguments = self.sequence(Ending::Resolver)?;
        if !self.eat("}") {
            return Err(self.unexpected(start, "`,` or `}`"));
        }
        Ok(Reference::Resolver { name: Box::new(path.remove(0)), arguments })
    }

    /// Elements separated by commas, up to the closing character, which stays. An element between two commas may be
    /// missing: it is the empty string.
    fn sequence(&mut self, ending: Ending) -> Result<Vec<Element>> {
        let close = if ending == Ending::List { ']' } else { '}' };
        let empty = || Element::Scalar(Value::Text(String::new()));
        let mut elements = Vec::new();
        self.skip_blanks();
        if self.peek() == Some(close) {
            return Ok(elements);
        }
        loop {
            self.skip_blanks();
            match self.peek() {
                Some(',') => elements.push(empty()),
                Some(c) if c == close => {
                    elements.push(empty());
                    return Ok(elements);
                }
                _ => elements.push(self.element(ending)?),
            }
            self.skip_blanks();
            if !self.eat(",") {
                return Ok(elements);
            }
        }
    }

    fn element(&mut self, ending: Ending) -> Result<Element> {
        if ending != Ending::End {
            self.skip_blanks();
        }
        match self.peek() {
            Some(quote @ ('\'' | '"')) => {
                self.at += 1;
                self.mixed_until(Some(quote)).map(Element::Quoted)
            }
            Some('[') => {
                self.at += 1;
                let list = self.deeper(|parser| parser.sequence(Ending::List))?;
                if self.eat("]") { Ok(Element::List(list)) } else { Err(self.unclosed("`,` or `]`")) }
            }
            Some('{') => {
                self.at += 1;
                self.deeper(Self::dict).map(Element::Dict)
            }
            _ => self.primitive(ending),
        }
    }

    fn unclosed(&self, wanted: &str) -> SyntaxError {
        match self.peek() {
            None => self.error(format!("expected {wanted}, found the end"), None),
            Some(c) => self.error(format!("expected {wanted}, found `{}`", c.escape_debug()), Some(QUOTE_IT)),
        }
    }

    /// From after `{` to after `}`.
    fn dict(&mut self) -> Result<Vec<(String, Element)>> {
        let mut entries = Vec::new();
        self.skip_blanks();
        if self.eat("}") {
            return Ok(entries);
        }
        loop {
            self.skip_blanks();
            let (key, parts) = self.words(|c| c == ':', false)?;
            if !parts.is_empty() || key.is_empty() {
                return Err(self.error("a key in `{…}` is one plain word without quotes", None));
            }
            if !self.eat(":") {
                return Err(self.unclosed("`:`"));
            }
            let element = self.element(Ending::Dict)?;
            entries.push((key, element));
            self.skip_blanks();
            if self.eat("}") {
                return Ok(entries);
            }
            if !self.eat(",") {
                return Err(self.unclosed("`,` or `}`"));
            }
        }
    }

    /// An unquoted value. Surrounding blanks are ignored, except in a whole string.
    fn primitive(&mut self, ending: Ending) -> Result<Element> {
        let from = self.at;
        let (text, parts) = self.words(|_| false, ending == Ending::End)?;
        if parts.is_empty() {
            let written = &self.text[from..self.at];
            if written.trim().is_empty() {
                return Err(self.unclosed("a value"));
            }
            let written = if ending == Ending::End { written } else { written.trim() };
            return Ok(Element::Scalar(typed_word(written).unwrap_or(Value::Text(text))));
        }
        let mut parts = parts;
        push_text(&mut parts, text);
        Ok(Element::Mixed(parts))
    }

    /// Unquoted characters and interpolations, up to one that ends them: the text since the last interpolation, and
    /// what was before it. Blanks at the end are dropped unless they are escaped, or `blanks` keeps them.
    fn words(&mut self, ends: impl Fn(char) -> bool, blanks: bool) -> Result<(String, Vec<Part>)> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut kept = 0;
        let mut after_colon = false;
        while let Some(c) = self.peek() {
            let next = self.rest()[c.len_utf8()..].chars().next();
            if ends(c) || matches!(c, ',' | ']' | '}' | '[' | '{') {
                break;
            } else if c == '$' && next == Some('{') {
                push_text(&mut parts, std::mem::take(&mut text));
                parts.push(Part::Interpolation(self.interpolation()?));
                (kept, after_colon) = (0, false);
                continue;
            } else if c == '\\' && next.is_some_and(|next| "\\()[]{}:=, \t".contains(next)) {
                text.extend(next);
                kept = text.len();
                self.at += 2;
                continue;
            } else if !(c.is_ascii_alphanumeric() || "_/-\\+.$%*@?|: \t\n\r".contains(c)) {
                return Err(self.error(format!("`{}` needs quotes here", c.escape_debug()), Some(QUOTE_IT)));
            }
            text.push(c);
            self.at += c.len_utf8();
            // A blank behind a `:` belongs to it.
            if blanks || !c.is_whitespace() || after_colon {
                kept = text.len();
            }
            after_colon = c == ':' || (after_colon && c.is_whitespace());
        }
        text.truncate(kept);
        Ok((text, parts))
    }
}

const QUOTE_IT: &str = "put the value in single or double quotes";

fn push_text(parts: &mut Vec<Part>, text: String) {
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
}
