//! [`Wire`]: a connection that is cut after some byte.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Link;
use super::fault::Cut;

/// A connection that is cut after some byte in one of its directions, and counts what comes in.
pub(super) struct Wire {
    stream: TcpStream,
    cut: Cut,
    link: Arc<Link>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, cut: Cut, link: Arc<Link>) -> Self {
        Self { stream, cut, link }
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // At once, and not with the next byte: the client may be waiting for an answer.
        if matches!(self.cut, Cut::Received(0)) {
            return Poll::Ready(Err(reset()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = (buffer.filled().len() - before) as u64;
        self.link.received.fetch_add(read, Ordering::Relaxed);
        if let Cut::Received(left) = &mut self.cut {
            let kept = read.min(*left);
            *left -= kept;
            buffer.set_filled(before + kept as usize);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Cut::Sent(left) = self.cut else {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        };
        if left == 0 && !bytes.is_empty() {
            return Poll::Ready(Err(reset()));
        }
        let most = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, &bytes[..most]))?;
        self.cut = Cut::Sent(left - written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
