int fr_extras_placeholder(void);int fr_extras_placeholder(void){return 0;}
