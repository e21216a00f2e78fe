"""What makes a notebook talk back: results, figures, widgets, quizzes and exercises."""
