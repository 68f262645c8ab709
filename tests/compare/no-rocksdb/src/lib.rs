//! The names of a disk engine that cannot be opened, so that nobody waits a quarter of an hour for one that is not used.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::path::Path;

#[derive(Debug)]
pub struct Error;

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("this build has no disk engine")
    }
}

impl std::error::Error for Error {}

#[derive(PartialEq, Eq)]
pub enum ErrorKind {
    NotSupported,
    TimedOut,
    TryAgain,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::NotSupported
    }

    pub fn into_string(self) -> String {
        self.to_string()
    }
}

impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.to_string()
    }
}

pub struct MultiThreaded;
pub type DB = DBWithThreadMode<MultiThreaded>;
type Entry = (Box<[u8]>, Box<[u8]>);

/// There is none.
pub struct DBWithThreadMode<T>(Infallible, PhantomData<T>);

impl<T> DBWithThreadMode<T> {
    pub fn open<P: AsRef<Path>>(_: &Options, _: P) -> Result<Self, Error> {
        Err(Error)
    }

    pub fn get<K: AsRef<[u8]>>(&self, _: K) -> Result<Option<Vec<u8>>, Error> {
        match self.0 {}
    }

    pub fn delete<K: AsRef<[u8]>>(&self, _: K) -> Result<(), Error> {
        match self.0 {}
    }

    pub fn merge<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, _: K, _: V) -> Result<(), Error> {
        match self.0 {}
    }

    pub fn iterator(&self, _: IteratorMode) -> std::iter::Empty<Result<Entry, Error>> {
        match self.0 {}
    }

    pub fn prefix_iterator<K: AsRef<[u8]>>(&self, _: K) -> std::iter::Empty<Result<Entry, Error>> {
        match self.0 {}
    }
}

pub enum IteratorMode {
    Start,
}

pub enum DBCompressionType {
    Bz2,
    None,
}

pub enum CompactionDecision {
    Keep,
    Remove,
}

pub struct MergeOperands(Vec<Vec<u8>>);

impl<'a> IntoIterator for &'a MergeOperands {
    type Item = &'a [u8];
    type IntoIter = std::iter::Map<std::slice::Iter<'a, Vec<u8>>, fn(&'a Vec<u8>) -> &'a [u8]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(Vec::as_slice)
    }
}

#[derive(Default)]
pub struct Options;

impl Options {
    pub fn set_compression_type(&mut self, _: DBCompressionType) {}

    pub fn set_compaction_filter<F>(&mut self, _: impl AsRef<str>, _: F)
    where
        F: FnMut(u32, &[u8], &[u8]) -> CompactionDecision + Send + 'static,
    {
    }

    pub fn set_merge_operator_associative<F>(&mut self, _: impl AsRef<str>, _: F)
    where
        F: Fn(&[u8], Option<&[u8]>, &MergeOperands) -> Option<Vec<u8>> + Clone + Send + Sync + 'static,
    {
    }

    pub fn create_if_missing(&mut self, _: bool) {}
}
