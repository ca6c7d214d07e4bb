//! A strict reader of the text that `/metrics` answers with, written from the format's description
//! and not from the writer's code.

use std::collections::{BTreeMap, BTreeSet};

type Labels = BTreeMap<String, String>;

/// Labels to look a sample up with.
pub(super) fn labels(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// All samples of one scrape.
#[derive(Debug)]
pub(in crate::e2e) struct Exposition {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<(String, Labels), f64>,
}

impl Exposition {
    /// Panics over anything that the format does not allow, or that scrapers would misread.
    pub(super) fn parse(text: &str) -> Self {
        let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
        let mut exposition = Exposition { kinds: BTreeMap::new(), samples: BTreeMap::new() };
        let mut current = String::new();
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (word, name) = (words.next().unwrap(), words.next().unwrap());
                let rest = words.next().unwrap();
                assert!(is_name(name), "{line}");
                match word {
                    "HELP" => current = name.to_owned(),
                    "TYPE" => {
                        let kinds = ["counter", "gauge", "histogram"];
                        assert!(kinds.contains(&rest), "{line}");
                        let earlier = exposition.kinds.insert(name.to_owned(), rest.to_owned());
                        assert_eq!(earlier, None, "{name} comes twice");
                    }
                    "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                    _ => panic!("{line}"),
                }
                assert_eq!(name, current, "{line}");
                continue;
            }
            let (name, labels, value) = sample(line);
            let kind = exposition.kinds.get(&current).expect("a type comes before its samples");
            let suffix = name.strip_prefix(current.as_str()).expect("samples stand together");
            let suffixes: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_count", "_sum"],
                _ => &[""],
            };
            assert!(suffixes.contains(&suffix), "{line} is no {kind}");
            assert!(kind == "gauge" || value >= 0.0, "{line}");
            let earlier = exposition.samples.insert((name, labels), value);
            assert_eq!(earlier, None, "twice: {line}");
        }
        exposition.check_histograms();
        exposition
    }

    fn check_histograms(&self) {
        let mut series: BTreeMap<(String, Labels), Vec<(f64, f64)>> = BTreeMap::new();
        for ((name, labels), value) in &self.samples {
            if let Some(family) = name.strip_suffix("_bucket") {
                let mut labels = labels.clone();
                let bound = labels.remove("le").expect("a bucket has its bound");
                let bound = bound.replace("+Inf", "inf").parse().unwrap();
                series.entry((family.to_owned(), labels)).or_default().push((bound, *value));
            }
        }
        for ((family, labels), mut buckets) in series {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{family}: {buckets:?}");
            let last = buckets.last().unwrap();
            assert_eq!(last.0, f64::INFINITY, "{family}");
            assert_eq!(self.get(&format!("{family}_count"), &labels), Some(last.1), "{family}");
            assert!(self.get(&format!("{family}_sum"), &labels).is_some(), "{family}");
        }
    }

    pub(super) fn get(&self, name: &str, labels: &Labels) -> Option<f64> {
        self.samples.get(&(name.to_owned(), labels.clone())).copied()
    }

    /// The value of a sample that must be there.
    #[track_caller]
    pub(in crate::e2e) fn value(&self, name: &str, with: &[(&str, &str)]) -> f64 {
        self.get(name, &labels(with)).unwrap_or_else(|| panic!("no {name} with {with:?}"))
    }

    /// All samples of a family by their labels.
    pub(super) fn family(&self, family: &str) -> BTreeMap<&Labels, f64> {
        let of_it = |name: &str| name == family || name.strip_suffix("_total") == Some(family);
        let samples = self.samples.iter().filter(|((name, _), _)| of_it(name));
        samples.map(|((_, labels), value)| (labels, *value)).collect()
    }

    /// The label names of every family.
    pub(super) fn labels(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, labels) in self.samples.keys() {
            let family = self.kinds.keys().filter(|family| name.starts_with(family.as_str()));
            // The longest: one family's name can be the beginning of another's.
            let family = family.max_by_key(|family| family.len()).unwrap();
            found.entry(family.clone()).or_default().extend(labels.keys().cloned());
        }
        found
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// `name{label="value",...} number`
fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).expect(line);
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").expect(line);
            assert!(is_name(label), "{line}");
            let (value, after) = quoted(after).expect(line);
            assert_eq!(labels.insert(label.to_owned(), value), None, "{line}");
            if let Some(after) = after.strip_prefix("} ") {
                rest = after;
                break;
            }
            rest = after.strip_prefix(',').expect(line);
        }
    } else {
        rest = rest.strip_prefix(' ').expect(line);
    }
    let value: f64 = rest.parse().expect(line);
    assert!(value.is_finite(), "{line}");
    (name.to_owned(), labels, value)
}

/// The value up to its closing quote, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                c @ ('"' | '\\') => value.push(c),
                _ => return None,
            },
            c => value.push(c),
        }
    }
    None
}
