"""Sources, decoding, transforms, tokenizers and the resumable loader."""
