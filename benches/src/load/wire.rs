//! A socket that does not block, with TLS or without.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use rolegate_bench::Failure;

pub(super) struct Wire {
    pub(super) socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Wire {
    pub(super) fn connect(
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<Self, Failure> {
        let mut socket = std::net::TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let tls = match tls {
            Some(config) => {
                let name = ServerName::IpAddress(address.ip().into());
                let mut tls = ClientConnection::new(Arc::clone(config), name)?;
                tls.set_buffer_limit(None);
                socket.set_read_timeout(Some(Duration::from_secs(10)))?;
                while tls.is_handshaking() {
                    tls.complete_io(&mut socket)?;
                }
                Some(Box::new(tls))
            }
            None => None,
        };
        socket.set_nonblocking(true)?;
        Ok(Wire { socket: TcpStream::from_std(socket), tls })
    }

    /// Sends as much of `out` as the socket takes, and removes it.
    pub(super) fn send(&mut self, out: &mut Vec<u8>) -> Result<(), Failure> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(out)?;
            out.clear();
            while tls.wants_write() {
                match tls.write_tls(&mut self.socket) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
            return Ok(());
        }
        let mut sent = 0;
        while sent < out.len() {
            match self.socket.write(&out[sent..]) {
                Ok(more) => sent += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        out.drain(..sent);
        Ok(())
    }

    /// Appends what has come to `input`; whether that was all.
    pub(super) fn receive(&mut self, input: &mut Input) -> Result<bool, Failure> {
        let Some(tls) = &mut self.tls else {
            return match self.socket.read(input.room()) {
                Ok(0) => Err("the server closed the connection".into()),
                Ok(read) => Ok(input.filled(read)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
                Err(error) => Err(error.into()),
            };
        };
        let drained = match tls.read_tls(&mut self.socket) {
            Ok(0) => return Err("the server closed the connection".into()),
            Ok(_) => false,
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            Err(error) => return Err(error.into()),
        };
        let mut waiting = tls.process_new_packets()?.plaintext_bytes_to_read();
        while waiting > 0 {
            let read = tls.reader().read(input.room())?;
            input.filled(read);
            waiting -= read;
        }
        Ok(drained)
    }
}

/// What has come and was not taken apart yet.
pub(super) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    const ROOM: usize = 64 << 10;

    pub(super) fn new() -> Self {
        Input { bytes: vec![0; 4 * Self::ROOM], start: 0, end: 0 }
    }

    /// Without room, to stand in for another.
    pub(super) fn none() -> Self {
        Input { bytes: Vec::new(), start: 0, end: 0 }
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.start += bytes;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    fn room(&mut self) -> &mut [u8] {
        if self.bytes.len() - self.end < Self::ROOM {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.bytes.len() - self.end < Self::ROOM {
                self.bytes.resize(self.end + Self::ROOM, 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    /// Whether there was room for more than came, so that nothing waits.
    fn filled(&mut self, bytes: usize) -> bool {
        self.end += bytes;
        self.end < self.bytes.len()
    }
}
