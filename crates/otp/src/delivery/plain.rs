//! A connection that is not yet encrypted, one line at a time.
//!
//! Whoever sits in between can put words of its own behind the server's answer to STARTTLS. A client that has read them
//! already takes them for answers that came over TLS (CVE-2021-38371 and its kin). Here nothing is read past the end of
//! a line before the handshake begins, so such words meet the handshake, which fails.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The type of a TLS record that holds a handshake (RFC 8446, section 5.1). No SMTP command begins with it.
const HANDSHAKE: u8 = 0x16;

#[derive(Debug)]
pub(super) struct Plain {
    stream: TcpStream,
    /// Until the first byte of a handshake is sent.
    by_line: bool,
}

impl Plain {
    pub(super) const fn new(stream: TcpStream) -> Self {
        Self { stream, by_line: true }
    }
}

impl AsyncTokioStream for Plain {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for Plain {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.by_line {
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        // A byte at a time: what a server says before the handshake is a few hundred of them.
        let mut byte = [0];
        while into.remaining() > 0 {
            let mut one = ReadBuf::new(&mut byte);
            match Pin::new(&mut self.stream).poll_read(cx, &mut one) {
                Poll::Pending if into.filled().is_empty() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(read) => read?,
            }
            let read = one.filled();
            into.put_slice(read);
            if read != b"\n" && !read.is_empty() {
                continue;
            }
            break;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Plain {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.by_line &= from.first() != Some(&HANDSHAKE);
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, from));
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn nothing_behind_a_line_is_read_before_the_handshake_begins() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut peer, _) = listener.accept().await.unwrap();
            peer.write_all(b"220 ready\r\n250 injected\r\n").await.unwrap();
            let mut hello = [0; 1];
            peer.read_exact(&mut hello).await.unwrap();
            peer
        };
        let client = async {
            let mut plain = Plain::new(TcpStream::connect(address).await.unwrap());
            let mut line = Vec::new();
            let mut buffer = [0; 512];
            while !line.ends_with(b"\n") {
                let read = plain.read(&mut buffer).await.unwrap();
                line.extend_from_slice(&buffer[..read]);
            }
            assert_eq!(line, b"220 ready\r\n");
            plain.write_all(&[HANDSHAKE]).await.unwrap();
            let read = plain.read(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..read], b"250 injected\r\n", "it meets whoever expects a handshake");
        };
        let (_peer, ()) = tokio::join!(server, client);
    }
}
