//! `tierlab bench`: rows of figures, for people and programs.
//!
//! The [`row`] does the measuring; [`report`] is what is printed, and its JSON the stable form; [`compare`]
//! sets a former report beside it; [`machine`] says where it was.

pub mod compare;
pub mod machine;
pub mod report;
pub mod row;
