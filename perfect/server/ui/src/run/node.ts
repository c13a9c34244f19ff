/** px */
export const NODE = { width: 190, height: 52 };
