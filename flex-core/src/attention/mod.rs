//! An attention problem on host memory: what every backend and the reference take.

mod error;
mod problem;
mod tensor;

pub use error::AttentionError;
pub use problem::{MAX_HEAD_DIM, Problem, Shape};
pub use tensor::{DType, Elements, ElementsMut, TensorRef};
