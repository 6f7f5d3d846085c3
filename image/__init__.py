"""Image: the SD card's image, made from locked packages; the same inputs give the same bits."""
