"""From video files and folders of frames, made by strangers, to the pixels of clips."""
