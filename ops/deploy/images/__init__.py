"""Container images: building, bundling, pulling, and pinning by digest."""
