"""What a checkpoint's weights show: which were drawn, by which scheme, and which were trained."""
