//! What one stream may take.

use super::*;
use crate::grpc::unread::{FREE_BYTES, Unread};

/// So many items, as small as they may be with an id each, in a message that is at hand to nobody.
fn many(count: u64) -> Vec<u8> {
    let items =
        (0..count).map(|id| pb::CheckStreamItem { correlation_id: id % 100, ..Default::default() });
    // An unknown field in front.
    [&[0x7d, 1, 2, 3, 4], &about("acme", items.collect()).encode_to_vec()[..]].concat()
}

/// However many there are: no more of them is named than one message may have.
#[tokio::test]
async fn too_many_items_are_refused_and_not_taken_apart() {
    let bench = Bench::new().await;
    let limit = RateLimit::new(1, Some(10_000));
    let allowance = Some(Arc::new(Allowance::new(limit)));
    let limited = Caller { allowance, ..Caller::development() };
    for (caller, reasons) in [
        (Caller::development(), ["TOO_MANY_ITEMS", "TOO_MANY_ITEMS"]),
        // The first one takes all that there is.
        (limited, ["TOO_MANY_ITEMS", "RATE_LIMITED"]),
    ] {
        let goes_on = caller.allowance.is_none();
        let mut stream = bench.open(caller).await;
        for (reason, count) in reasons.into_iter().zip([10_001, 20_000]) {
            stream.send(&framed(&many(count)));
            let response = stream.next().await.unwrap();
            let told = answers_of(&response);
            assert!(told.iter().map(|(id, _)| *id).eq((0..10_000).map(|id| id % 100)));
            let error = response.refusal.unwrap().error.unwrap();
            assert_eq!(error.reason, reason);
            if reason == "TOO_MANY_ITEMS" {
                assert_eq!(
                    (&*error.field, &*error.metadata["count"]),
                    ("items", &*count.to_string())
                );
            }
        }
        stream.ask(&about("acme", vec![item(7, "kim", "ticket.work")]));
        let told = answers_of(&stream.next().await.unwrap());
        assert_eq!((told.len(), told[0].0, told[0].1.is_ok()), (1, 7, goes_on));
    }
}

/// The next frame, if there is one now.
async fn poll(stream: &mut Stream) -> Option<Bytes> {
    let poll = std::future::poll_fn(|context| {
        Poll::Ready(match Pin::new(&mut stream.answers).poll_frame(context) {
            Poll::Ready(frame) => Some(frame.unwrap().unwrap().into_data().unwrap()),
            Poll::Pending => None,
        })
    });
    poll.await
}

/// Who does not read his answers has no room for more questions.
#[tokio::test]
async fn a_message_takes_room_until_its_answers_are_taken() {
    let bench = Bench::new().await;
    let mut stream = bench.open(Caller::development()).await;
    let message = framed(&about("acme", vec![item(1, "kim", "ticket.work")]).encode_to_vec());
    // It comes to be at hand.
    stream.send(&message);
    stream.next().await.unwrap();
    assert!(poll(&mut stream).await.is_none());
    assert_eq!(stream.room.bytes(), 0);
    stream.send(&message);
    assert!(poll(&mut stream).await.is_some());
    assert_eq!(stream.room.bytes(), message.len() as u64, "answered, and not taken");
    assert!(poll(&mut stream).await.is_none());
    assert_eq!(stream.room.bytes(), 0);
    // What asks nothing has no answer.
    stream.send(&framed(&about("acme", vec![]).encode_to_vec()));
    assert!(poll(&mut stream).await.is_none());
    assert_eq!(stream.room.bytes(), 0);
}

/// What the transport takes of answers beyond what its client reads is one frame.
#[tokio::test]
async fn no_frame_is_larger_than_a_frame_may_be() {
    let bench = Bench::new().await;
    let mut stream = bench.open(Caller::development()).await;
    let message = framed(&about("acme", vec![item(1, "", ""); 10_000]).encode_to_vec());
    stream.send(&message);
    stream.close();
    let (mut frames, mut bytes, mut before) = (0, Vec::new(), u64::MAX);
    loop {
        let frame = stream.answers.frame().await.unwrap().unwrap();
        let Ok(data) = frame.into_data() else { break };
        assert!(data.len() <= 128 << 10, "{} bytes", data.len());
        // The answers that are in no frame yet count as well.
        let held = stream.room.bytes();
        assert!(held >= message.len() as u64 && held < before, "{frames}: {held}, {before}");
        // Until the last of them is in one they are there as a whole.
        before = held + 1;
        frames += 1;
        bytes.extend_from_slice(&data);
    }
    assert_eq!(stream.room.bytes(), 0);
    assert!(frames > 5, "{frames}");
    let mut results = 0;
    while let Some((header, rest)) = bytes.split_first_chunk::<5>() {
        let length = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize;
        let response = pb::CheckStreamResponse::decode(&rest[..length]).unwrap();
        results += answers_of(&response).iter().filter(|(_, answer)| answer.is_err()).count();
        bytes.drain(..5 + length);
    }
    assert_eq!(results, 10_000);
}

/// A bounded number of questions waits for the database; the others wait in their client.
#[tokio::test]
async fn nothing_more_is_read_while_many_questions_wait() {
    let bench = Bench::new().await;
    let mut stream = bench.open(Caller::development()).await;
    let request = |first: u64| pb::CheckStreamRequest {
        consistency: fully_consistent(),
        ..about("acme", (first..first + 400).map(|id| item(id, "kim", "ticket.work")).collect())
    };
    for message in 0..10 {
        stream.ask(&request(message * 400));
    }
    let poll = std::future::poll_fn(|context| {
        Poll::Ready(Pin::new(&mut stream.answers).poll_frame(context).is_pending())
    });
    // On one thread, no database answers in between.
    assert!(poll.await);
    // Three messages have more than a thousand questions.
    assert_eq!(stream.unread.load(Ordering::Relaxed), 7);
    stream.close();
    assert_eq!(stream.all().await.0.len(), 4_000);
}

/// Answers without room end their stream, and no other.
#[tokio::test]
async fn a_stream_ends_when_there_is_no_room_for_its_answers() {
    let bench = Bench::new().await;
    let mut stream = bench.open(Caller::development()).await;
    // It comes to be at hand, and so its answers are made at once.
    let small = about("acme", vec![item(1, "kim", "ticket.work")]);
    stream.ask(&small);
    stream.next().await.unwrap();
    let message =
        framed(&about("acme", vec![item(1, "kim", "ticket.work"); 4_000]).encode_to_vec());
    // What others hold: all but this message and a little.
    let rest = 640 * LIMIT - message.len() - (128 << 10);
    let _held = Unread::new(&stream.room).hold(FREE_BYTES + rest, None).unwrap();
    stream.send(&message);
    stream.close();
    let (answers, status) = stream.all().await;
    assert_eq!(answers.len(), 0);
    ended(&status, Code::ResourceExhausted, "SERVER_OVERLOADED");
}
