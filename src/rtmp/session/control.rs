//! Protocol control and user control messages (RTMP 1.0 §5.4, §7.1.7): windows, pings, acknowledgements.

use super::{Session, SessionError, WINDOW};
use crate::rtmp::chunk::{Message, control_number, kind};

/// User control events (§7.1.7).
mod event {
    pub(super) const STREAM_BEGIN: [u8; 2] = [0, 0];
    pub(super) const PING_REQUEST: [u8; 2] = [0, 6];
    pub(super) const PING_RESPONSE: [u8; 2] = [0, 7];
}

impl Session {
    /// What is neither media nor a command. Unknown types are passed over.
    pub(super) fn handle_control(&mut self, message: &Message) -> Result<(), SessionError> {
        match message.kind {
            kind::WINDOW_SIZE => {
                // A tiny window would make us answer every packet.
                self.window = u64::from(control_number(&message.data)?).clamp(16 * 1024, 1 << 30);
            }
            // §5.4.5: the answer is a Window Acknowledgement Size, if it is another than the last.
            kind::PEER_BANDWIDTH if control_number(&message.data)? != WINDOW => self.write_window(),
            kind::USER_CONTROL => {
                if let Some(timestamp) = message.data.strip_prefix(&event::PING_REQUEST)
                    && timestamp.len() == 4
                {
                    self.write_event(event::PING_RESPONSE, timestamp);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Tells the peer how often we want to hear an acknowledgement.
    pub(super) fn write_window(&mut self) {
        self.writer.write(2, kind::WINDOW_SIZE, 0, 0, &[&WINDOW.to_be_bytes()]);
    }

    /// Stream Begin.
    pub(super) fn write_stream_begin(&mut self, stream: u32) {
        self.write_event(event::STREAM_BEGIN, &stream.to_be_bytes());
    }

    /// §5.4.3: the total received, modulo 2^32, twice in each window.
    pub(super) fn acknowledge(&mut self) {
        let received = self.reader.received();
        if received - self.acknowledged >= self.window / 2 {
            self.acknowledged = received;
            self.writer.write(2, kind::ACKNOWLEDGEMENT, 0, 0, &[&(received as u32).to_be_bytes()]);
        }
    }

    fn write_event(&mut self, event: [u8; 2], data: &[u8]) {
        self.writer.write(2, kind::USER_CONTROL, 0, 0, &[&event, data]);
    }
}
