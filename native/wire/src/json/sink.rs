//! What a scanner tells, and to whom.

/// What a sink wants of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// Only its end.
    Skip,
    /// The text of a string, number or literal.
    Text,
    /// Of a container: the keys and values directly in it.
    Inside,
}

/// Text of a value that has ended, as it stands in the source; of a string: between the quotes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Text<'a> {
    NotWanted,
    Raw(&'a [u8]),
    TooLong,
}

/// Hears of the root value, and of what is inside the containers it asked for. `depth` counts the
/// containers around a key or value.
pub trait Sink {
    /// `key` is decoded.
    fn key(&mut self, depth: usize, key: &[u8]);
    /// A value begins at `offset` with the byte `first`, which tells its type.
    fn begin(&mut self, depth: usize, first: u8, offset: usize) -> Want;
    /// That value ended before `offset`. An error ends the scan.
    fn end(&mut self, depth: usize, offset: usize, text: Text<'_>) -> Result<(), &'static str>;
}
