//! Prometheus text format 0.0.4: the samples of a few names out of a page of thousands.
//!
//! A line whose name is not wanted costs the search for its end and one comparison of lengths. A
//! line that does not follow the format is skipped: half a page is better than none, and a value
//! that is missing is known to be missing.

use memchr::{memchr, memchr2};

pub struct Sample {
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

/// For each name, in the order of `names`, its samples in the order of the page.
pub fn parse(page: &[u8], names: &[String]) -> Vec<Vec<Sample>> {
    let mut samples: Vec<Vec<Sample>> = names.iter().map(|_| Vec::new()).collect();
    let lengths = names
        .iter()
        .fold(0u64, |lengths, name| lengths | 1 << (name.len() % 64));
    let mut rest = page;
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let line = rest[..end].trim_ascii();
        rest = rest.get(end + 1..).unwrap_or(&[]);
        let name_end = memchr2(b'{', b' ', line).unwrap_or(line.len());
        let name = line[..name_end].trim_ascii_end();
        // A tab after the name is legal and rare: it leaves a "name" with the value in it.
        let name = match memchr(b'\t', name) {
            Some(tab) => &name[..tab],
            None => name,
        };
        if lengths & 1 << (name.len() % 64) == 0 || line.first() == Some(&b'#') {
            continue;
        }
        let Some(index) = names.iter().position(|wanted| wanted.as_bytes() == name) else {
            continue;
        };
        if let Some(sample) = sample(&line[name.len()..]) {
            samples[index].push(sample);
        }
    }
    samples
}

/// What follows the name: `{label="value",…} value timestamp`.
fn sample(rest: &[u8]) -> Option<Sample> {
    let text = std::str::from_utf8(rest).ok()?.trim_start_matches(BLANKS);
    let (labels, text) = match text.strip_prefix('{') {
        Some(text) => labels(text)?,
        None => (Vec::new(), text),
    };
    let mut words = text.split(BLANKS).filter(|word| !word.is_empty());
    let value = words.next()?.parse().ok()?;
    if let Some(timestamp) = words.next() {
        timestamp.parse::<i64>().ok()?;
    }
    words.next().is_none().then_some(Sample { labels, value })
}

const BLANKS: [char; 2] = [' ', '\t'];

type Labels = Vec<(String, String)>;

/// The labels up to the closing brace, and what follows it.
fn labels(mut text: &str) -> Option<(Labels, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches(BLANKS);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once('=')?;
        let name = name.trim_end_matches(BLANKS);
        if !is_label_name(name) {
            return None;
        }
        let (value, rest) = quoted(rest.trim_start_matches(BLANKS).strip_prefix('"')?)?;
        labels.push((name.to_owned(), value));
        text = rest.trim_start_matches(BLANKS);
        match text.strip_prefix(',') {
            Some(rest) => text = rest,
            None if text.starts_with('}') => {}
            None => return None,
        }
    }
}

fn is_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A label value up to its closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let at = memchr2(b'"', b'\\', rest.as_bytes())?;
        value.push_str(&rest[..at]);
        if rest.as_bytes()[at] == b'"' {
            return Some((value, &rest[at + 1..]));
        }
        let escaped = rest[at + 1..].chars().next()?;
        match escaped {
            'n' => value.push('\n'),
            '\\' | '"' => value.push(escaped),
            other => value.extend(['\\', other]),
        }
        rest = &rest[at + 1 + escaped.len_utf8()..];
    }
}
