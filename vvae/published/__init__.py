"""Released checkpoints: their tensor names as tables (`table`), tensors there and back (`renames`)."""
