//! How messages become bytes and back. A request is measured before it is decoded: its lists may have
//! no more entries than they may have, and what it takes then is counted among the bytes under way.

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::{Message, Name};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstDecoder, ProstEncoder};

use super::admission::hold_decoded;
use super::wire::measure;
use crate::domain::refusal::Refusal;

/// Codec of the generated services and clients.
#[derive(Debug, Clone)]
pub struct MeasuredCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for MeasuredCodec<T, U> {
    fn default() -> Self {
        MeasuredCodec(PhantomData)
    }
}

impl<T, U> Codec for MeasuredCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = MeasuredDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        MeasuredDecoder(ProstDecoder::default())
    }
}

/// Decoder that looks at a request before it decodes it.
#[derive(Debug, Clone)]
pub struct MeasuredDecoder<U>(ProstDecoder<U>);

impl<U: Message + Name + Default> Decoder for MeasuredDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // One piece: it lies in one buffer.
        match measure(U::NAME, buffer.chunk()) {
            Ok(0) => {}
            Ok(bytes) => hold_decoded(bytes)?,
            Err(violation) => return Err(Refusal::Invalid(vec![violation]).into()),
        }
        self.0.decode(buffer)
    }
}
