"""What a person sees: reports in Markdown and HTML, charts and sheets of images."""
