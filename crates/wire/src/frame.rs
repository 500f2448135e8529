//! The header before every payload.

/// Bytes of a header.
pub(crate) const HEADER: usize = 8;

/// What a frame does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Opens a stream; the payload says what for.
    Open,
    /// Bytes of a stream.
    Data,
    /// The other side may send so many bytes more: four bytes, little endian.
    Credit,
    /// No more bytes will come from this side.
    End,
    /// The stream is over, both ways, at once.
    Reset,
    /// A message, on stream 0.
    Message,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) length: u16,
    pub(crate) stream: u32,
}

// === impl Header ===

impl Header {
    pub(crate) fn encode(self) -> [u8; HEADER] {
        let kind = match self.kind {
            Kind::Open => 1,
            Kind::Data => 2,
            Kind::Credit => 3,
            Kind::End => 4,
            Kind::Reset => 5,
            Kind::Message => 6,
        };
        let [l0, l1] = self.length.to_le_bytes();
        let [s0, s1, s2, s3] = self.stream.to_le_bytes();
        [kind, 0, l0, l1, s0, s1, s2, s3]
    }

    /// `None` for bytes that are no header.
    pub(crate) fn decode(bytes: [u8; HEADER]) -> Option<Self> {
        let [kind, zero, l0, l1, s0, s1, s2, s3] = bytes;
        let kind = match kind {
            1 => Kind::Open,
            2 => Kind::Data,
            3 => Kind::Credit,
            4 => Kind::End,
            5 => Kind::Reset,
            6 => Kind::Message,
            _ => return None,
        };
        let header =
            Self { kind, length: u16::from_le_bytes([l0, l1]), stream: u32::from_le_bytes([s0, s1, s2, s3]) };
        (zero == 0 && header.is_sound()).then_some(header)
    }

    fn is_sound(&self) -> bool {
        let on_a_stream = self.stream != 0;
        match self.kind {
            Kind::Open => on_a_stream && usize::from(self.length) <= MAX_OPEN,
            Kind::Data => on_a_stream && self.length > 0 && usize::from(self.length) <= MAX_DATA,
            Kind::Credit => on_a_stream && self.length == 4,
            Kind::End | Kind::Reset => on_a_stream && self.length == 0,
            Kind::Message => !on_a_stream,
        }
    }
}

/// Largest payload of data: small enough that a bulk transfer does not hold up another stream for long.
pub(crate) const MAX_DATA: usize = 16 << 10;
/// Largest payload of an opening.
pub(crate) const MAX_OPEN: usize = 16;
