//! Creating, resizing and deleting pictures on disk.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use asynqueue::prelude::*;
use image::{ImageReader, Rgb, RgbImage, imageops::FilterType};

use crate::{Upload, upload::FlakyServer};

/// The directory of the pictures.
#[derive(Clone)]
pub(crate) struct Folder(pub(crate) PathBuf);

/// Resizes a picture and enqueues its upload.
#[derive(Serialize, Deserialize, Task)]
#[task(
    event = "picture:resize",
    queue = "pictures",
    max_retry = 3,
    timeout = "30s"
)]
pub(crate) struct Resize {
    pub(crate) picture: u32,
    pub(crate) width: u32,
}

/// Deletes the oldest pictures.
#[derive(Serialize, Deserialize, Task)]
#[task(
    event = "picture:clean-up",
    queue = "pictures",
    max_retry = 0,
    unique(ttl = "10m")
)]
pub(crate) struct CleanUp {
    /// How many pictures to keep.
    pub(crate) keep: usize,
}

/// Creates pictures to resize.
pub(crate) fn make_pictures(folder: &Path, count: u32) -> Result<(), BoxError> {
    std::fs::create_dir_all(folder)?;
    for n in 0..count {
        let color = |x: u32, y: u32| Rgb([(x / 2) as u8, (y / 2) as u8, (n * 20) as u8]);
        RgbImage::from_fn(512, 384, color).save(folder.join(format!("{n}.png")))?;
    }
    Ok(())
}

pub(crate) async fn resize(
    task: Payload<Resize>,
    State(Folder(folder)): State<Folder>,
    producer: State<Producer>,
    ctx: Context,
) -> Result<(), TaskError> {
    let large = folder.join(format!("{}.png", task.picture));
    let small = folder.join(format!("{}-small.png", task.picture));
    let (target, width) = (small.clone(), task.width);
    println!("resizing picture {}", task.picture);
    // Resizing is CPU-bound, so it runs on a blocking thread.
    ctx.run_blocking(move |_| -> Result<(), BoxError> {
        let picture = ImageReader::open(large)?.decode()?;
        let height = picture.height() * width / picture.width();
        picture
            .resize(width, height, FilterType::Triangle)
            .save(target)?;
        Ok(())
    })
    .await??;
    // With this ID, the picture is uploaded once even if this task runs again.
    let upload = producer.enqueue(Upload { file: small });
    match upload.id(format!("upload-{}", task.picture)).await {
        Ok(_) | Err(asynqueue::EnqueueError::Conflict(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn clean_up(
    task: Payload<CleanUp>,
    State(Folder(folder)): State<Folder>,
    server: State<Arc<FlakyServer>>,
) -> Result<(), TaskError> {
    // Pictures that are not uploaded yet must not be deleted.
    if server.received() < u64::from(crate::PICTURES) {
        return Ok(());
    }
    let mut pictures = Vec::new();
    for picture in std::fs::read_dir(folder)? {
        let picture = picture?;
        pictures.push((picture.metadata()?.modified()?, picture.path()));
    }
    pictures.sort();
    let old = pictures.len().saturating_sub(task.keep);
    for (_, path) in pictures.into_iter().take(old) {
        std::fs::remove_file(path)?;
    }
    println!("cleaned up {old} pictures");
    Ok(())
}
