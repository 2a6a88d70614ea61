"""What a trained model finds in sound: in clips, in long recordings, and as the sound comes."""
