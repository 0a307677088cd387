//! A machine without a GPU, or with a broken installation, gets errors that say what to install.
#![cfg(feature = "cuda")]

use flex_attention::cuda::{CudaDevice, CudaError};
use flex_attention::prelude::*;

#[test]
fn a_missing_gpu_is_an_error_and_the_cpu_is_used() {
    match CudaDevice::count() {
        Ok(count) => {
            println!("this machine has {count} GPUs: looking for one more");
            assert!(matches!(Device::cuda(count), Err(CudaError::NoSuchDevice { .. })));
            assert!(Device::cuda(usize::MAX).is_err());
        }
        Err(error) => {
            assert_eq!(Device::best(), Device::Cpu);
            let text = Device::cuda(0).unwrap_err().to_string();
            assert_eq!(text, error.to_string(), "the same answer every time");
            assert!(
                text.contains("install") || text.contains("nvidia-smi") || text.contains("update"),
                "{text}"
            );
        }
    }
}

#[test]
fn asking_from_many_threads_is_safe() {
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| (Device::best(), Device::cuda(0).is_ok()))).collect();
        let answers: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    });
}

#[test]
fn a_tensor_stays_on_the_cpu_when_asked_to() {
    let tensor = Tensor::zeros(DType::F32, [1, 1, 2, 2]).unwrap();
    assert_eq!(tensor.to(&Device::Cpu).unwrap().device(), Device::Cpu);
    assert_eq!(Device::Cpu.to_string(), "cpu");
}
