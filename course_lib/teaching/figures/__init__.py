"""The drawings of each chapter, as functions of what they show."""
