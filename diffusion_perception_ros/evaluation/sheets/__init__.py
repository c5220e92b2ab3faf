"""Contact sheets: images, predictions, truth and errors side by side, with what the colours mean."""
