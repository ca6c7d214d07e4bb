//! HTTP/2 as far as a load needs it: frames are written and taken apart byte by byte, header blocks
//! are a handful of indices after the first call.

use fluke_hpack::Decoder;

use rolegate_bench::Failure;

/// What a connection begins with, before its settings.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest window there is: the server never waits for the load to read.
pub(super) const WINDOW: u32 = (1 << 31) - 1;
/// What every window begins with.
pub(super) const FIRST_WINDOW: u32 = 65_535;
/// The largest frame that is sent; every server takes it.
pub(super) const LARGEST_FRAME: usize = 16_384;
/// What a frame begins with.
pub(super) const FRAME_HEAD: usize = 9;

/// The kinds of frames that matter here.
pub(super) mod kind {
    pub(in crate::load) const DATA: u8 = 0;
    pub(in crate::load) const HEADERS: u8 = 1;
    pub(in crate::load) const RST_STREAM: u8 = 3;
    pub(in crate::load) const SETTINGS: u8 = 4;
    pub(in crate::load) const PING: u8 = 6;
    pub(in crate::load) const GOAWAY: u8 = 7;
    pub(in crate::load) const WINDOW_UPDATE: u8 = 8;
}

/// Flags of frames.
pub(super) mod flag {
    pub(in crate::load) const END_STREAM: u8 = 1;
    pub(in crate::load) const ACK: u8 = 1;
    pub(in crate::load) const END_HEADERS: u8 = 4;
    pub(in crate::load) const PADDED_OR_PRIORITY: u8 = 0x8 | 0x20;
}

/// Writes what a frame begins with.
pub(super) fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// Preface, settings, and a window that never closes.
pub(super) fn hello(out: &mut Vec<u8>) {
    const INITIAL_WINDOW_SIZE: u16 = 4;
    out.extend_from_slice(PREFACE);
    head(out, 6, kind::SETTINGS, 0, 0);
    out.extend_from_slice(&INITIAL_WINDOW_SIZE.to_be_bytes());
    out.extend_from_slice(&WINDOW.to_be_bytes());
    window_update(out, 0, WINDOW - FIRST_WINDOW);
}

/// Lets the server send more.
pub(super) fn window_update(out: &mut Vec<u8>, stream: u32, more: u32) {
    head(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&more.to_be_bytes());
}

/// The header blocks of calls that differ in nothing but their messages.
#[derive(Debug, Clone)]
pub(super) struct RequestHeaders {
    /// Puts the fields into the table.
    pub(super) first: Vec<u8>,
    /// Points to them there.
    pub(super) later: Vec<u8>,
}

impl RequestHeaders {
    pub(super) fn new(path: &str, authority: &str, tls: bool, token: Option<&str>) -> Self {
        // By their places in HPACK's own table.
        const METHOD_POST: u8 = 0x80 | 3;
        const SCHEME: u8 = 0x80 | 6;
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut fields = vec![
            (Name::At(4), path),
            (Name::At(1), authority),
            (Name::Text("te"), "trailers"),
            (Name::At(31), "application/grpc"),
            (Name::At(58), "rolegate-bench"),
        ];
        if let Some(bearer) = &bearer {
            fields.push((Name::At(23), bearer));
        }
        let mut first = vec![METHOD_POST, SCHEME + u8::from(tls)];
        let mut later = first.clone();
        // The newest entry is 62, the first that was put in has the highest number.
        let mut place = 61 + fields.len() as u8;
        for (name, value) in fields {
            match name {
                Name::At(index) => first.push(0x40 | index),
                Name::Text(name) => {
                    first.push(0x40);
                    text(&mut first, name);
                }
            }
            text(&mut first, value);
            later.push(0x80 | place);
            place -= 1;
        }
        RequestHeaders { first, later }
    }
}

enum Name<'a> {
    At(u8),
    Text(&'a str),
}

/// A text that is not compressed, of less than 16 KiB.
fn text(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        short @ 0..127 => out.push(short as u8),
        long => {
            let rest = long - 127;
            out.push(127);
            if rest < 128 {
                out.push(rest as u8);
            } else {
                out.extend_from_slice(&[(rest & 127) as u8 | 128, (rest >> 7) as u8]);
            }
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// What a header block of an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// The answer begins.
    Begins,
    /// The call is done, and all is well.
    Done,
}

/// Reads the header blocks of answers, all of them, for each can change the table that the next ones
/// are read by. Those that only point into it are recognized by their bytes.
pub(super) struct AnswerHeaders {
    decoder: Decoder<'static>,
    known: Vec<(Vec<u8>, Said)>,
}

impl AnswerHeaders {
    pub(super) fn new() -> Self {
        AnswerHeaders { decoder: Decoder::new(), known: Vec::new() }
    }

    pub(super) fn read(&mut self, block: &[u8]) -> Result<Said, Failure> {
        if let Some((_, said)) = self.known.iter().find(|(known, _)| known == block) {
            return Ok(*said);
        }
        let fields = self.decoder.decode(block).map_err(|error| format!("HPACK: {error:?}"))?;
        let find = |wanted: &[u8]| {
            let field = fields.iter().find(|(name, _)| name.as_slice() == wanted);
            field.map(|(_, value)| value.as_slice())
        };
        let said = match (find(b":status"), find(b"grpc-status")) {
            (_, Some(b"0")) => Said::Done,
            (Some(b"200"), None) => Said::Begins,
            _ => {
                let fields = fields.iter().map(|(name, value)| {
                    format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
                });
                return Err(
                    format!("a call failed: {}", fields.collect::<Vec<_>>().join(", ")).into()
                );
            }
        };
        let only_points = block.iter().all(|byte| *byte & 0x80 != 0 && *byte != 0xff);
        if only_points {
            self.known.push((block.to_owned(), said));
        } else {
            self.known.clear();
        }
        Ok(said)
    }
}
