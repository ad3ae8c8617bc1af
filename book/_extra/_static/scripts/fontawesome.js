/* Empty on purpose: the theme's icons come from its woff2 fonts; its 1.5 MB script of SVG icons is not needed. */
