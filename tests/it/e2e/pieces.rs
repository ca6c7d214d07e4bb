//! A check is answered however its frames come.

use std::time::Duration;

use prost::Message as _;
use rolegate::grpc::pb;
use tokio::io::AsyncWriteExt as _;

use super::callers::setup::{eventually, metric};
use super::limits::{PREFACE, frame, head, say};
use super::process::Server;

const DATA: u8 = 0;
const END_STREAM: u8 = 1;

#[tokio::test]
async fn a_check_is_answered_however_its_frames_come() {
    let directory = tempfile::tempdir().unwrap();
    let ports = [
        ["--log-format", "json"],
        ["--grpc-addr", "127.0.0.1:0"],
        ["--admin-addr", "127.0.0.1:0"],
        ["--request-timeout", "1"],
    ]
    .concat();
    let arguments = [&["serve", "--dev", "--demo"][..], &ports].concat();
    let server = Server::spawn(directory.path(), &arguments).unwrap();
    let check = pb::CheckRequest {
        tenant_id: "demo-oqupie".into(),
        member_id: "alice".into(),
        permission: "ticket.work".into(),
        ..Default::default()
    };
    let message = check.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let message = [&[0], &length[..], &message].concat();
    let (begun, rest) = message.split_at(9);
    let whole = |flags| vec![(DATA, flags, message.clone())];
    let nothing = || (DATA, END_STREAM, Vec::new());
    // What comes after the head, and how long after it.
    let cases = [
        ("with it", 0, whole(END_STREAM), "OK"),
        ("right after it", 2, whole(END_STREAM), "OK"),
        ("when nobody waits for it any more", 60, whole(END_STREAM), "OK"),
        ("in two", 2, vec![(DATA, 0, begun.to_vec()), (DATA, END_STREAM, rest.to_vec())], "OK"),
        ("and later its end", 2, [whole(0), vec![nothing()]].concat(), "OK"),
        ("not at all", 2, vec![nothing()], "INVALID_ARGUMENT"),
        ("never, nor its end", 2, vec![], "DEADLINE_EXCEEDED"),
        ("in part", 2, vec![(DATA, END_STREAM, begun.to_vec())], "INVALID_ARGUMENT"),
    ];
    let mut raw = say(&server, PREFACE).await;
    let method = "method=\"rolegate.v1.AuthzService/Check\"";
    let ended = async |code: &str| {
        let line = format!("rolegate_rpcs_total{{{method},code=\"{code}\"}}");
        metric(&server, &line).await.unwrap_or_default() as u64
    };
    for (number, (what, pause, pieces, code)) in cases.iter().enumerate() {
        let before = ended(code).await;
        let stream = 2 * u32::try_from(number).unwrap() + 1;
        let mut head = head(stream, "/rolegate.v1.AuthzService/Check", &[]);
        let pieces = pieces.iter().map(|(kind, flags, data)| frame(*kind, *flags, stream, data));
        if *pause == 0 {
            head.extend(pieces.collect::<Vec<_>>().concat());
            raw.write_all(&head).await.unwrap();
        } else {
            raw.write_all(&head).await.unwrap();
            for piece in pieces {
                tokio::time::sleep(Duration::from_millis(*pause)).await;
                raw.write_all(&piece).await.unwrap();
            }
        }
        eventually(what, async || ended(code).await == before + 1).await;
    }
}
